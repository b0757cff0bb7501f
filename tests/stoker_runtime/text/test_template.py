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
CHATS: dict[str, list[dict[str, object]]] = {
    "one": [{"role": "user", "content": "Hi"}],
    "system": [
        {"role": "system", "content": "  Be kind.\n"},
        {"role": "user", "content": "a <b> & é 😀\n\n"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": ""},
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


@pytest.mark.parametrize("template", [CHATML, LLAMA], ids=["chatml", "llama"])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.filterwarnings("ignore")
def test_renders_and_tokenises_as_transformers_does(
    tmp_path: Path, template: str, chat: str
) -> None:
    folder = write(tmp_path, template)
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    messages = CHATS[chat]
    text = ChatTemplate(template, ours.config.special_tokens).render(messages)
    expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == expected
    ids = theirs.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert ours.encode(text, add_special_tokens=False) == ids


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
