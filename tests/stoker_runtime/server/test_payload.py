"""What a stream adds up to is what the plain answer says, for any request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.server.payload import FINGERPRINT
from support.runtime_server import MODEL, RuntimeServer

FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text("ab é😀\n", min_size=1, max_size=12)


def ask(server: RuntimeServer, path: str, body: dict[str, Any]) -> Any:
    answer = server.request("POST", path, {"model": MODEL} | body)
    assert answer.status == 200, answer.body
    return answer


def add_up(data: bytes) -> dict[str, Any]:
    """A stream as a plain answer: text, reasons and scores of each choice, and the usage."""
    events = [json.loads(e.removeprefix("data: ")) for e in data.decode().split("\n\n")[:-2]]
    assert len({(e["id"], e["created"], e["model"], e["object"]) for e in events}) == 1
    assert events[-1]["choices"] == []
    choices: dict[int, dict[str, Any]] = {}
    for chunk in (choice for event in events for choice in event["choices"]):
        choice = choices.setdefault(chunk["index"], {"text": "", "tokens": [], "ends": []})
        choice["text"] += chunk["delta"].get("content", "") if "delta" in chunk else chunk["text"]
        if chunk["logprobs"]:
            found = chunk["logprobs"]
            tokens = found.get("tokens") or [e["token"] for e in found.get("content", [])]
            choice["tokens"] += tokens
        if chunk["finish_reason"]:
            choice["ends"].append((chunk["finish_reason"], chunk["stop_reason"]))
    return {"choices": choices, "usage": events[-1]["usage"]}


def plain(answer: Any) -> dict[str, Any]:
    """A plain answer in the same form."""
    choices = {}
    for choice in answer["choices"]:
        found = choice["logprobs"] or {}
        choices[choice["index"]] = {
            "text": choice["message"]["content"] if "message" in choice else choice["text"],
            "tokens": found.get("tokens") or [e["token"] for e in found.get("content", [])],
            "ends": [(choice["finish_reason"], choice["stop_reason"])],
        }
    return {"choices": choices, "usage": answer["usage"]}


@FUZZ
@given(
    prompt=TEXT,
    stops=st.lists(TEXT, max_size=3),
    n=st.integers(1, 3),
    max_tokens=st.integers(1, 20),
    switches=st.tuples(*[st.booleans()] * 4),
)
def test_a_stream_adds_up_to_the_plain_answer(
    scripted: RuntimeServer,
    prompt: str,
    stops: list[str],
    n: int,
    max_tokens: int,
    switches: tuple[bool, ...],
) -> None:
    scores, keeps_stop, echo, is_chat = switches
    body: dict[str, Any] = {"n": n, "max_tokens": max_tokens, "stop": stops}
    body |= {"include_stop_str_in_output": keeps_stop, "min_tokens": max_tokens // 4}
    if is_chat:
        path = "/v1/chat/completions"
        body |= {"messages": [{"role": "user", "content": prompt}], "logprobs": scores}
    else:
        path = "/v1/completions"
        body |= {"prompt": prompt, "echo": echo, "logprobs": 1 if scores else None}
    whole = plain(ask(scripted, path, body).json)
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert add_up(ask(scripted, path, body | streaming).body) == whole


@pytest.mark.parametrize(
    ("fields", "reason", "stop_reason"),
    [
        ({}, "length", None),
        ({"stop": ["b"]}, "stop", "b"),
        ({"max_tokens": 1, "stop": ["zz"]}, "length", None),
    ],
    ids=["length", "stop", "no stop"],
)
def test_an_answer_says_why_it_ended(
    scripted: RuntimeServer, fields: dict[str, Any], reason: str, stop_reason: object
) -> None:
    answer = ask(scripted, "/v1/completions", {"prompt": "ab", "max_tokens": 5} | fields).json
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == (reason, stop_reason)
    assert answer["system_fingerprint"] == FINGERPRINT


def test_usage_says_what_was_cached_and_what_was_thought(server: RuntimeServer) -> None:
    body = {"prompt": "one two " * 30, "max_tokens": 2}
    first, second = (ask(server, "/v1/completions", body).json["usage"] for _ in range(2))
    assert first["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert 0 < second["prompt_tokens_details"]["cached_tokens"] < second["prompt_tokens"]


def test_salted_prompts_share_nothing_with_others(server: RuntimeServer) -> None:
    body = {"prompt": "three fires " * 30, "max_tokens": 1}
    cached = [
        ask(server, "/v1/completions", body | salt).json["usage"]["prompt_tokens_details"]
        for salt in ({}, {}, {"cache_salt": "a"}, {"cache_salt": "a"}, {"cache_salt": "b"})
    ]
    assert [entry["cached_tokens"] > 0 for entry in cached] == [False, True, False, True, False]
