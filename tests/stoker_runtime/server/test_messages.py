"""Messages of a chat: what is read, and that the message and the field at fault are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker_runtime.server.openai import Ask, read_chat
from stoker_runtime.server.refusal import Refusal

USER = [{"role": "user", "content": "hi"}]


def chat(messages: list[Any]) -> Ask:
    return read_chat(json.dumps({"model": "m", "messages": messages}).encode())


MESSAGES: list[tuple[list[Any], str]] = [
    ([{}], "messages[0].role"),
    ([{"role": "robot", "content": "x"}], "messages[0].role"),
    ([{"role": 5, "content": "x"}], "messages[0].role"),
    (["hi"], "messages[0]"),
    ([*USER, {"role": "user"}], "messages[1].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": []}], "messages[0].content"),
    ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages[0].content[0].text"),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
        "messages[0].content[0].type",
    ),
    ([{"role": "user", "content": "x", "name": 5}], "messages[0].name"),
    ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ([{"role": "assistant", "content": None}], "messages[0].content"),
    ([{"role": "assistant", "tool_calls": 5}], "messages[0].tool_calls"),
    ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function"),
    (
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
        "messages[0].tool_calls[0].function.arguments",
    ),
]


@pytest.mark.parametrize(("messages", "param"), MESSAGES, ids=str)
def test_a_wrong_message_is_named(messages: list[Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        chat(messages=messages)
    assert refused.value.status == 400
    assert refused.value.param == param


def test_messages_reach_the_template_plain() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    read_call = call | {"function": {"name": "f", "arguments": {"a": 1}}}
    ask = chat(
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "4", "tool_call_id": "1"},
        ]
    )
    assert ask.chat is not None
    assert ask.chat.messages == (
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "a", "name": "Ann"},
        {"role": "assistant", "content": "", "tool_calls": [read_call]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    )


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("", {}),
        ("[1]", "[1]"),
        ("not JSON", "not JSON"),
        ("[" * 100_000, "[" * 100_000),
        (r'{"a": "\ud800"}', r'{"a": "\ud800"}'),
    ],
    ids=["object", "nothing", "list", "text", "deep", "half a pair"],
)
def test_arguments_of_calls_are_objects_where_they_can_be(arguments: str, read: object) -> None:
    function = {"name": "f", "arguments": arguments}
    ask = chat([{"role": "assistant", "tool_calls": [{"function": function}]}])
    assert ask.chat is not None
    calls: Any = ask.chat.messages[0]["tool_calls"]
    assert calls[0]["function"]["arguments"] == read
