"""A hostile template reads nothing, ends, and makes nothing huge; an honest one is not hindered."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from stoker_runtime.errors import CheckpointBroken, RequestInvalid
from stoker_runtime.text import sandbox
from stoker_runtime.text.template import ChatTemplate

CHAT = [{"role": "user", "content": "x" * 50}]

COSTLY = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}"
    "{% endfor %}{% endfor %}",
    "loop over a generator": "{% for a in range(9999)|map('string') %}"
    "{% for b in range(9999)|map('string') %}{% endfor %}{% endfor %}",
    "doubled by concatenation": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled by addition": "{% set ns = namespace(x=['ab']) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled by block": "{% set x = 'abcdefgh' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "doubled lists": "{% set x = ['abcdefgh'] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "doubled lists as JSON": "{% set x = ['a'] %}" + "{% set x = [x, x] %}" * 60 + "{{ x|tojson }}",
    "text times number": "{{ ('a' * 10**9) | length }}",
    "number times text": "{{ (10**9 * 'a') | length }}",
    "list times number": "{{ ([1] * 10**9) | length }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "product": "{% set ns = namespace(x=9**999) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "wide percent": "{{ ('%999999999d' % 1) | length }}",
    "wide percent from elsewhere": "{{ ('%*d' % (999999999, 1)) | length }}",
    "wide filter": "{{ ('%999999999d' | format(1)) | length }}",
    "wide method": "{{ '{:>999999999}'.format(1) | length }}",
    "width in a field": "{{ '{:>{}}'.format(1, 999999999) | length }}",
    "centred": "{{ 'a' | center(999999999) | length }}",
    "justified": "{{ 'a'.ljust(999999999) | length }}",
    "zeros": "{{ 'a'.zfill(999999999) | length }}",
    "indented": "{{ ('a\\n' * 9999) | indent('b' * 99999) | length }}",
    "replaced": "{{ ('a' * 99999) | replace('a', 'b' * 99999) | length }}",
    "replaced by method": "{{ ('a' * 99999).replace('a', 'b' * 99999) | length }}",
    "joined": "{{ (['a' * 999999] * 99999) | join | length }}",
    "joined by method": "{{ ('b' * 999999).join(['a'] * 999999) | length }}",
    "translated": "{{ ('a' * 999999).translate({97: 'b' * 999999}) | length }}",
    "batches": "{{ [1] | batch(10**9, 0) | list | length }}",
    "JSON": "{{ ([[1]] * 9999) | tojson(indent=99999) | length }}",
    "macro calling itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% set x = [1] * 999 %}{% for a in [x, x] recursive %}"
    "{% if a is iterable %}{{ loop(a * 99) }}{% else %}{{ loop([x] * 99) }}{% endif %}{% endfor %}",
    "text between tags": "{% for a in range(99999) %}" + "text" * 9999 + "{% endfor %}",
    "searches": "{% set x = 'a' * 9999999 %}{% for a in range(99999) %}{% if 'b' in x %}{% endif %}"
    "{% endfor %}",
    "searches by test": "{% set x = 'a' * 9999999 %}{% for a in range(99999) %}"
    "{% if 'b' is in x %}{% endif %}{% endfor %}",
    "sorts": "{% set x = ['a' * 99999 ~ 'b', 'a' * 99999 ~ 'c'] %}{% for a in range(99999) %}"
    "{% set y = x|sort %}{% endfor %}",
    "searches in lists": "{% set x = ['a' * 999999 ~ 'b'] * 99 %}{% set y = 'a' * 999999 ~ 'c' %}"
    "{% for a in range(9999) %}{% if y in x %}{% endif %}{% endfor %}",
    "comparisons": "{% set x = {'a': 'a' * 999999} %}{% set y = {'a': 'b' * 999999} %}"
    "{% for a in range(9999) %}{% if x == y %}{% endif %}{% endfor %}",
    "comparisons by test": "{% set x = ['a' * 999999] %}{% set y = ['b' * 999999] %}"
    "{% for a in range(9999) %}{% if x is equalto y %}{% endif %}{% endfor %}",
    "lists joined one by one": "{{ ([[1] * 1000] * 9999) | sum(start=[]) | length }}",
    "rounded": "{{ 5 | round(9999999, 'floor') }}",
    "cuts": "{% set x = 'a' * 9999999 %}{% for a in range(99999) %}{% set y = x[1:] %}{% endfor %}",
}


@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY)
def test_a_costly_template_is_given_up(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "FUEL", sandbox.FUEL // 20)
    with pytest.raises(RequestInvalid):
        ChatTemplate(source, {}).render(CHAT)


HUGE = {
    "nothing justified": "{{ ''.ljust(10**8) | length }}",
    "nothing centred": "{{ '' | center(10**8) | length }}",
    "bytes of a number": "{{ (1).to_bytes(10**8, 'big') | length }}",
    "bytes of a text": "{{ ('a'.encode() * 10**8) | length }}",
    "slices": "{{ [] | slice(10**6) | list | length }}",
    "joined one by one": "{{ range(99) | map('string') | join('a' * 10**6) | length }}",
    "joined one by one by method": "{{ ('a' * 10**6).join(range(99) | map('string')) | length }}",
    "many fields": "{{ ('{0}' * 99).format('a' * 10**6) | length }}",
    "many percents": "{{ (('%(a)s' * 99) % {'a': 'a' * 10**6}) | length }}",
    "width in a map": "{{ '{a:>99999999}'.format_map({'a': 1}) | length }}",
}


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE)
def test_something_huge_is_refused_before_it_is_made(source: str) -> None:
    template = ChatTemplate(source, {})
    tracemalloc.start()
    try:
        with pytest.raises(RequestInvalid):
            template.render(CHAT)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_texts_are_formatted_with_modest_values() -> None:
    source = "{{ '{:>5}|{a}'.format(1, a='b') }}{{ '%s!' % 'c' }}{{ '%s' | format('d') }}"
    assert ChatTemplate(source, {}).render(CHAT) == "    1|bc!d"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['datetime'] }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ messages.clear() }}",
    ],
)
def test_nothing_outside_the_chat_can_be_reached(source: str) -> None:
    with contextlib.suppress(RequestInvalid):
        assert ChatTemplate("{{ 1 }}" + source, {}).render(CHAT) == "1"
    assert CHAT == [{"role": "user", "content": "x" * 50}]


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5000 + ")" * 5000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if 1 %}" * 500 + "{% endif %}" * 500,
        "{% for a in b %}" * 50 + "{% endfor %}" * 50,
        "{{ " + "9" * 9999 + " }}",
        "x" * 600_000,
    ],
    ids=["text", "brackets", "ifs", "fors", "number", "long"],
)
def test_a_template_that_cannot_be_compiled_is_broken_by_name(source: str) -> None:
    with contextlib.suppress(CheckpointBroken, RequestInvalid):
        assert ChatTemplate(source, {}).render(CHAT)


def test_a_very_long_chat_is_rendered() -> None:
    source = (
        (
            "{% for m in messages[::-1] %}{% if m.role == 'user' %}{% endif %}{% endfor %}"
            "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
            "{{ m.content.split('</think>')[-1] | trim }}{{ '<|im_end|>\n' }}{% endfor %}"
        )
        + "{# "
        + "x" * 10_000
        + " #}"
    )
    messages = [{"role": "user", "content": "y" * 1000} for _ in range(4096)]
    assert len(ChatTemplate(source, {}).render(messages)) > 4096 * 1000


def test_each_rendering_has_a_full_tank() -> None:
    template = ChatTemplate("{% for a in range(9999) %}{{ a }}{% endfor %}", {})
    texts = {template.render(CHAT) for _ in range(20)}
    assert len(texts) == 1
