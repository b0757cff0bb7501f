"""The chat template renders what transformers renders, and refuses what it can't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from stoker_runtime.errors import CheckpointBroken, RequestInvalid
from stoker_runtime.text.template import ChatTemplate
from stoker_runtime.text.tokenizer import Tokenizer
from support.checkpoints import write_tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{% for message in messages %}
    {%- if loop.index0 > 3 %}{% break %}{% endif %}
    {% if message.role == 'user' -%}
[INST] {{ system_message }} {{ message.content | trim }} [/INST]
    {% elif message.tool_calls is defined %}
        {{- message.tool_calls[0].function | tojson(indent=2) }}
    {% else %}
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}
    {%- endif %}
{% endfor %}
{%- set ns = namespace(found=false) %}{% set ns.found = true %}{{ ns.found }}
{{ tools is none }} {{ documents is none }} {{ 'é<&>"' | tojson }} {{ messages | length }}
"""
TOOLS = """{%- macro head(role) -%}<|im_start|>{{ role }}{{ '\n' }}{%- endmacro -%}
{%- if not tools is none and tools %}{{ tools | tojson(indent=4) }}{% endif -%}
{%- set ns = namespace(last=-1) -%}
{%- for m in messages[::-1] -%}
    {%- if m.role == 'user' and ns.last < 0 %}
        {%- set ns.last = (messages|length - 1) - loop.index0 %}
    {%- endif -%}
{%- endfor -%}
{%- for m in messages if m.role != 'system' -%}
    {{- head(m.role) -}}
    {%- if m.tool_calls -%}
        {%- for call in m.tool_calls -%}
            {%- set f = call.function if call.function is defined else call -%}
            {{- '{"name": "' ~ f.name ~ '", "arguments": ' -}}
            {%- if f.arguments is string %}{{ f.arguments }}
            {%- else %}{{ f.arguments|tojson }}{% endif -%}
            {{- '}' -}}{%- if not loop.last %}, {% endif -%}
        {%- endfor -%}
    {%- elif m.content is mapping or m.content is not string and m.content is iterable -%}
        {%- for part in m.content %}{{ part['text'] | trim }}{% endfor -%}
    {%- else -%}
        {{- m.content.split('</think>')[-1].lstrip('\n') -}}
    {%- endif -%}
    {{- '<|im_end|>' -}}{{- '\n' if loop.index0 >= ns.last or loop.last else ' ' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ head('assistant') }}
    {%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif -%}
{%- endif -%}"""
STRICT = """{{ bos_token }}
{%- set first = messages[0] if messages[0]['role'] == 'system' else none -%}
{%- set rest = messages[1:] if first else messages -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Roles must alternate: ' + message['role']) -}}
    {%- endif -%}
    {%- set role = {'user': 'USER', 'assistant': 'MODEL'}.get(message['role'], 'OTHER') -%}
    {%- set content = (first['content'] | trim + '\n\n' if first and loop.first else '')
        + message['content'] -%}
    {{- '<turn>%s\n' % role + content | trim + '</turn>\n' -}}
{%- endfor -%}
{{- strftime_now('%Y') | int > 2000 -}}{{ messages | map(attribute='role') | join(',') | upper -}}
{{- messages | selectattr('role', 'equalto', 'user') | list | length -}}
{%- if add_generation_prompt %}<turn>MODEL{{ '\n' }}{% endif -%}"""
CHATS: dict[str, list[dict[str, object]]] = {
    "one": [{"role": "user", "content": "Hi"}],
    "system": [
        {"role": "system", "content": "  Be kind.\n"},
        {"role": "user", "content": "a <b> & é 😀\n\n"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": ""},
    ],
    "long": [
        {"role": role, "content": f"<think>{at}</think>\n turn {at} {{{{ 7 * 7 }}}} "}
        for at in range(20)
        for role in ("user", "assistant")
    ],
    "calls": [
        {"role": "user", "content": "2+2?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
    ],
}


def write(folder: Path, template: str) -> Path:
    """A folder with only a tokenizer and the template."""
    write_tokenizer(folder, 320)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return folder


TEMPLATES = {"chatml": CHATML, "llama": LLAMA, "tools": TOOLS, "strict": STRICT}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.filterwarnings("ignore")
def test_renders_and_tokenises_as_transformers_does(
    tmp_path: Path, template: str, chat: str
) -> None:
    folder = write(tmp_path, template)
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    messages = CHATS[chat]
    rendering = ChatTemplate(template, ours.config.special_tokens)
    for opens in (True, False):
        expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=opens)
        assert rendering.render(messages, opens_answer=opens) == expected
    text = rendering.render(messages)
    ids = theirs.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert ours.encode(text, add_special_tokens=False) == ids


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("last", ["so be it", " with space around \n", "<|im_end|>", "a}}{{b"])
@pytest.mark.filterwarnings("ignore")
def test_the_last_message_stays_open_as_in_transformers(
    tmp_path: Path, template: str, last: str
) -> None:
    folder = write(tmp_path, template)
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    messages = [*CHATS["one"], {"role": "assistant", "content": last}]
    rendering = ChatTemplate(template, ours.config.special_tokens)
    assert rendering.render_open(messages) == theirs.apply_chat_template(
        messages, tokenize=False, continue_final_message=True
    )


def test_a_last_message_that_is_not_shown_cannot_stay_open() -> None:
    with pytest.raises(RequestInvalid, match="does not show"):
        ChatTemplate("{{ messages | length }}", {}).render_open([{"content": "a"}])


@pytest.mark.filterwarnings("ignore")
def test_a_refusal_is_worded_as_in_transformers(tmp_path: Path) -> None:
    folder = write(tmp_path, STRICT)
    messages: list[dict[str, object]] = [{"role": "assistant", "content": "no"}]
    with pytest.raises(Exception, match="Roles must alternate: assistant"):
        AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)
    with pytest.raises(RequestInvalid, match=r"^Roles must alternate: assistant$"):
        ChatTemplate(STRICT, {}).render(messages)


def test_extra_names_reach_the_template() -> None:
    template = ChatTemplate("{{ messages[0].content }}{% if enable_thinking %}!{% endif %}", {})
    assert template.render([{"content": "a"}], {"enable_thinking": True}) == "a!"


def test_the_templates_own_refusal_is_shown_to_the_user() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(RequestInvalid, match=r"^roles must alternate$"):
        template.render([])


@pytest.mark.parametrize("source", ["{{ messages[0].a.b }}", "{{ 1 // 0 }}", "{{ 'a' + 1 }}"])
def test_a_template_that_fails_refuses_the_request(source: str) -> None:
    with pytest.raises(RequestInvalid, match="can't render this chat"):
        ChatTemplate(source, {}).render([{"role": "user"}])


def test_a_template_that_is_none_names_the_line() -> None:
    with pytest.raises(CheckpointBroken, match="chat_template"):
        ChatTemplate("{% for %}", {})


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ range(10**9) | list }}"],
)
def test_templates_run_in_a_sandbox(source: str) -> None:
    with pytest.raises(RequestInvalid):
        ChatTemplate(source + "{{ x.y.z }}", {}).render([{"role": "user"}])


def test_the_date_is_todays() -> None:
    import datetime

    year = ChatTemplate("{{ strftime_now('%Y') }}", {}).render([])
    assert year == str(datetime.datetime.now().year)
