"""Request bodies: what is read, what is refused, and that the field at fault is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server.defaults import SamplingDefaults
from stoker_runtime.server.openai import Ask, read_chat, read_completion
from stoker_runtime.server.refusal import Refusal

USER = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> Ask:
    return read_chat(json.dumps({"model": "m", "messages": USER} | fields).encode())


def completion(**fields: Any) -> Ask:
    return read_completion(json.dumps({"model": "m", "prompt": "hi"} | fields).encode())


def test_a_bare_request_has_openais_defaults() -> None:
    ask = chat()
    assert ask.params == SamplingParams(max_tokens=1)
    assert (ask.n, ask.max_tokens, ask.stream, ask.stops) == (1, None, False, ())
    assert completion().prompts == ("hi",)


def test_every_sampling_field_is_taken_over() -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "repetition_penalty": 1.1,
        "seed": -5,
        "logit_bias": {"7": -100, "8": 1.5},
        "stop_token_ids": [3, 3],
        "ignore_eos": True,
        "min_tokens": 2,
        "max_tokens": 9,
    }
    expected = fields | {"logit_bias": {7: -100.0, 8: 1.5}, "stop_token_ids": (3,)}
    assert completion(**fields).params == SamplingParams(**expected)


@pytest.mark.parametrize("value", [None, -1, 0])
def test_top_k_has_three_ways_to_keep_all(value: int | None) -> None:
    assert completion(top_k=value).params.top_k == 0


def test_top_p_zero_keeps_only_the_most_likely_token() -> None:
    assert 0 < completion(top_p=0).params.top_p < 1e-3


def test_null_is_the_same_as_absent() -> None:
    names = [*SamplingParams.__struct_fields__, "n", "stop", "stream", "stream_options", "tools"]
    names += ["response_format", "tool_choice", "top_logprobs", "max_completion_tokens", "user"]
    assert chat(**dict.fromkeys(names)) == chat()


def test_unknown_fields_are_ignored() -> None:
    fields = {"metadata": {"a": 1}, "store": True, "service_tier": "auto", "x": [[]]}
    assert chat(**fields) == chat()


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_a_chat_asks_for_logprobs_in_two_fields(
    fields: dict[str, Any], logprobs: int | None
) -> None:
    assert chat(**fields).params.logprobs == logprobs


@pytest.mark.parametrize("stop", ["a", ["a"], ["a", "b"]])
def test_stops_are_one_text_or_a_list(stop: str | list[str]) -> None:
    assert chat(stop=stop).stops == tuple(stop)


def test_the_template_gets_what_chats_say_about_thinking() -> None:
    ask = chat(reasoning_effort="low", chat_template_kwargs={"enable_thinking": False})
    assert ask.chat is not None
    assert ask.chat.extra == {"reasoning_effort": "low", "enable_thinking": False}


def test_the_models_own_defaults_hold_where_the_request_says_nothing() -> None:
    defaults = SamplingDefaults(temperature=0.6, top_p=0.9, top_k=20, repetition_penalty=1.1)
    data = b'{"model":"m","prompt":"x","top_k":5,"temperature":0}'
    params = read_completion(data, defaults).params
    assert (params.temperature, params.top_k) == (0, 5)
    assert (params.top_p, params.repetition_penalty) == (0.9, 1.1)


def test_priority_and_salt_are_taken_over() -> None:
    ask = completion(priority=-3, cache_salt="tenant")
    assert (ask.priority, ask.cache_salt) == (-3, "tenant")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"echo": True}, None),
        ({"logprobs": 2}, None),
        ({"echo": True, "logprobs": 2}, 2),
        ({"prompt_logprobs": 0}, 0),
        ({"prompt_logprobs": 3, "echo": True, "logprobs": 1}, 3),
    ],
    ids=str,
)
def test_scores_of_the_prompt_are_asked_for_in_two_ways(
    fields: dict[str, Any], wanted: int | None
) -> None:
    assert completion(**fields).params.prompt_logprobs == wanted


@pytest.mark.parametrize(
    ("fields", "opens", "continues"),
    [
        ({}, True, False),
        ({"add_generation_prompt": False}, False, False),
        ({"continue_final_message": True}, False, True),
        ({"continue_final_message": True, "add_generation_prompt": False}, False, True),
    ],
    ids=str,
)
def test_a_chat_says_how_its_prompt_ends(
    fields: dict[str, Any], opens: bool, continues: bool
) -> None:
    read = chat(**fields).chat
    assert read is not None
    assert (read.opens_answer, read.continues_last) == (opens, continues)


def test_a_chat_can_open_an_answer_or_continue_one_but_not_both() -> None:
    with pytest.raises(Refusal) as refused:
        chat(continue_final_message=True, add_generation_prompt=True)
    assert refused.value.param == "continue_final_message"


def test_tools_that_must_not_be_called_are_taken() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert chat(tools=tools, tool_choice="none") == chat()


BOTH = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", "0.5"),
    ("temperature", True),
    ("top_p", -0.1),
    ("top_p", 1.5),
    ("top_k", -2),
    ("top_k", 1.5),
    ("min_p", 1.1),
    ("presence_penalty", 2.1),
    ("frequency_penalty", -2.1),
    ("repetition_penalty", 0),
    ("n", 0),
    ("n", 129),
    ("n", 10**30),
    ("max_tokens", -1),
    ("max_tokens", 1.5),
    ("max_tokens", "5"),
    ("min_tokens", -1),
    ("seed", "x"),
    ("seed", 2**63),
    ("stop", 5),
    ("stop", ""),
    ("stop", ["a", ""]),
    ("stop", ["a"] * 17),
    ("stop", "a" * 513),
    ("logit_bias", {"5": 101}),
    ("logit_bias", {"5": -101}),
    ("logit_bias", {"x": 1}),
    ("logit_bias", {"-5": 1}),
    ("logit_bias", {"²": 1}),
    ("logit_bias", [1]),
    ("stream", "yes"),
    ("stream_options", {"include_usage": True}),
    ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "json_schema", "json_schema": {}}),
    ("guided_json", {}),
    ("structured_outputs", {"regex": "a"}),
    ("prompt_logprobs", 21),
    ("prompt_logprobs", -1),
    ("priority", 2**31),
    ("priority", "high"),
    ("cache_salt", ""),
    ("cache_salt", "a" * 513),
    ("allowed_token_ids", [1]),
    ("bad_words", ["x"]),
    ("logits_processors", ["x"]),
    ("truncate_prompt_tokens", 5),
    ("return_token_ids", True),
    ("add_special_tokens", 1),
    ("prompt_embeds", "x"),
    ("use_beam_search", True),
    ("model", 5),
    ("model", None),
    ("user", 5),
]
CHAT_ONLY = [
    ("max_tokens", 0),
    ("messages", []),
    ("messages", "hi"),
    ("messages", None),
    ("top_logprobs", 5),
    ("logprobs", 3),
    ("max_completion_tokens", 0),
    ("echo", True),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "required"),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ("functions", [{"name": "f"}]),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "x"}),
    ("web_search_options", {}),
    ("chat_template", "{{ 1 }}"),
    ("continue_final_message", 1),
    ("add_generation_prompt", "no"),
    ("parallel_tool_calls", 1),
    ("documents", [{"text": "x"}]),
    ("tools", "f"),
]
COMPLETION_ONLY = [
    ("prompt", None),
    ("prompt", []),
    ("prompt", [[]]),
    ("prompt", ["a", 5]),
    ("prompt", ["a", [5]]),
    ("prompt", {"a": 1}),
    ("logprobs", 21),
    ("logprobs", True),
    ("suffix", "x"),
    ("best_of", 3),
    ("best_of", 0),
    ("min_tokens", 99),
]


@pytest.mark.parametrize(("name", "value"), [*BOTH, *CHAT_ONLY], ids=str)
def test_a_wrong_field_of_a_chat_is_named(name: str, value: object) -> None:
    with pytest.raises(Refusal) as refused:
        chat(**{name: value})
    assert refused.value.status == 400
    assert refused.value.param == name
    assert name in refused.value.message


@pytest.mark.parametrize(("name", "value"), [*BOTH, *COMPLETION_ONLY], ids=str)
def test_a_wrong_field_of_a_completion_is_named(name: str, value: object) -> None:
    with pytest.raises(Refusal) as refused:
        completion(**{"max_tokens": 9} | {name: value})
    assert refused.value.status == 400
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"prompt": [1, -5]}, "prompt[1]", ">= 0, was -5"),
        ({"stop": ["a", 3]}, "stop[1]", "expected str, got int, was 3"),
        ({"temperature": 3}, "temperature", "<= 2.0, was 3"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "was 1"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", "streamed"),
        ({"prompt": ["a"] * 513, "n": 2}, "prompt", "more than 1024"),
    ],
)
def test_messages_say_what_was_there(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        completion(**fields)
    assert refused.value.param == param
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", []),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("response_format", {"type": "text"}),
        ("modalities", ["text"]),
        ("continue_final_message", False),
        ("add_generation_prompt", True),
        ("parallel_tool_calls", True),
        ("top_logprobs", 0),
        ("priority", 0),
        ("bad_words", []),
        ("stop", []),
        ("logit_bias", {}),
        ("n", 1),
    ],
    ids=str,
)
def test_fields_that_ask_for_nothing_are_taken(name: str, value: object) -> None:
    assert chat(**{name: value}) == chat()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = st.sampled_from([name for name, _ in [*BOTH, *CHAT_ONLY, *COMPLETION_ONLY]])


@settings(deadline=None)
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_json_is_read_or_refused_by_name(fields: dict[str, Any]) -> None:
    for read in (chat, completion):
        try:
            outcome: Ask | Refusal = read(**fields)
        except Refusal as refused:
            outcome = refused
        if isinstance(outcome, Refusal):
            assert outcome.status == 400
            assert outcome.param or outcome.code == "invalid_json"


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        read_chat(data)
    assert refused.value.status == 400
