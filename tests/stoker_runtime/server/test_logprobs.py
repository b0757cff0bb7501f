"""Scores of answers and prompts: the shapes, the places in the text, and what lm-eval computes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker_runtime.server.generation import TokenEntry
from stoker_runtime.server.logprobs import (
    list_prompt_entries,
    render_chat,
    render_completion,
    render_prompt,
)
from stoker_runtime.wire import TokenLogprob
from support.runtime_server import MODEL, RuntimeServer

COMPLETION = "/v1/completions"


class Words:
    """A few tokens; 0 is a begin-of-text token, 3 and 4 are the halves of one character."""

    tokens = (b"<s>", b"a", b" b", b"\xc3", b"\xa9")

    def token_bytes(self, id: int) -> bytes:
        return self.tokens[id]

    def is_special(self, id: int) -> bool:
        return id == 0


def scores(*ids: int) -> list[list[TokenLogprob]]:
    """What the engine says of a prompt: each token's own, and one that is likelier."""
    return [[TokenLogprob(id, -2.0), TokenLogprob(1, -0.5)] for id in ids]


@pytest.mark.parametrize(
    ("ids", "text", "offsets"),
    [
        ([1, 2], "a b", [0, 1]),
        ([0, 1, 2], "a b", [0, 0, 1]),
        ([0, 1, 2], "<s>a b", [0, 3, 4]),
        ([1, 3, 4, 2], "aé b", [0, 1, 1, 2]),
    ],
    ids=["plain", "begin of text left out", "begin of text shown", "halves"],
)
def test_tokens_of_a_prompt_know_their_place(ids: list[int], text: str, offsets: list[int]) -> None:
    entries = list_prompt_entries(ids, scores(*ids[1:]), Words(), text)
    answer = TokenEntry(TokenLogprob(1, -1.0), (TokenLogprob(1, -1.0),), 0)
    found: Any = render_completion([*entries, answer], Words(), 1, len(text))
    assert found["text_offset"] == [*offsets, len(text)]
    assert found["token_logprobs"] == [None, *[-2.0] * (len(ids) - 1), -1.0]
    assert found["top_logprobs"][0] is None
    assert all(len(top) <= 2 for top in found["top_logprobs"][1:])


def test_halves_of_a_character_are_told_apart() -> None:
    entries = [TokenEntry(TokenLogprob(id, -1.0), (), 0) for id in (3, 4)]
    found: Any = render_completion(entries, Words(), 0, 0)
    assert found["tokens"] == ["bytes:\\xc3", "bytes:\\xa9"]
    chat: Any = render_chat(entries, Words(), 0)
    assert [entry["bytes"] for entry in chat["content"]] == [[0xC3], [0xA9]]
    assert chat["refusal"] is None


def test_scores_of_a_prompt_are_keyed_by_id() -> None:
    assert render_prompt(scores(2, 1), Words(), 1) == [
        None,
        {
            "2": {"logprob": -2.0, "rank": None, "decoded_token": " b"},
            "1": {"logprob": -0.5, "rank": 1, "decoded_token": "a"},
        },
        {"1": {"logprob": -0.5, "rank": 1, "decoded_token": "a"}},
    ]
    assert render_prompt(scores(2), Words(), 0) == [
        None,
        {"2": {"logprob": -2.0, "rank": None, "decoded_token": " b"}},
    ]


def test_minus_infinity_is_a_number_in_json() -> None:
    entry = TokenEntry(TokenLogprob(1, float("-inf")), (), 0)
    assert json.loads(json.dumps(render_completion([entry], Words(), 0, 0)))["token_logprobs"] == [
        -9999.0
    ]


@pytest.fixture(scope="module")
def letters(server: RuntimeServer) -> dict[str, int]:
    """Tokens that are whole characters, and their ids."""
    ids = [server.request("POST", "/tokenize", {"prompt": char}).json["tokens"] for char in "xyz"]
    return {char: id for char, (id,) in zip("xyz", ids, strict=True)}


def complete(server: RuntimeServer, **fields: Any) -> Any:
    body = {"model": MODEL, "prompt": "hello world", "max_tokens": 4, "temperature": 0} | fields
    answer = server.request("POST", COMPLETION, body)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("max_tokens", [0, 1, 4])
@pytest.mark.parametrize("prompt", ["hello world", [5, 6, 7, 8], ["hello", "one two"]], ids=str)
def test_an_echo_shows_the_scores_of_prompt_and_answer(
    server: RuntimeServer, letters: dict[str, int], prompt: Any, max_tokens: int
) -> None:
    fields = {"logit_bias": {str(id): 60 for id in letters.values()}, "max_tokens": max_tokens}
    answer = complete(server, prompt=prompt, echo=True, logprobs=1, **fields)
    for choice in answer["choices"]:
        found = choice["logprobs"]
        assert "".join(found["tokens"]) == choice["text"]
        assert found["text_offset"][0] == 0
        assert found["token_logprobs"][0] is None
        assert all(logprob <= 0 for logprob in found["token_logprobs"][1:])
        assert len({len(part) for part in found.values()}) == 1
    num_choices = len(answer["choices"])
    assert answer["usage"]["completion_tokens"] == max_tokens * num_choices
    assert all(choice["finish_reason"] == "length" for choice in answer["choices"])


def test_scores_of_a_prompt_are_those_of_the_same_tokens_when_they_were_made(
    server: RuntimeServer, letters: dict[str, int]
) -> None:
    """What lm-eval sums up for a continuation is what the model said while it wrote it."""
    bias = {str(id): 60 for id in letters.values()}
    made = complete(server, prompt=[70, 71], logprobs=1, logit_bias=bias)["choices"][0]["logprobs"]
    ids = [letters[token] for token in made["tokens"]]
    scored = complete(server, prompt=[70, 71, *ids], echo=True, logprobs=1, max_tokens=1)
    found = scored["choices"][0]["logprobs"]
    assert found["tokens"][2:-1] == made["tokens"]
    assert found["token_logprobs"][2:-1] == pytest.approx(made["token_logprobs"], abs=1e-3)
    for made_top, found_top in zip(made["top_logprobs"], found["top_logprobs"][2:-1], strict=True):
        assert found_top == pytest.approx(made_top, abs=1e-3)


def test_a_streamed_echo_says_the_same_as_a_plain_one(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"echo": True, "logprobs": 2, "n": 2, "seed": 1, "temperature": 1}
    plain = complete(server, **fields)["choices"]
    body = {"model": MODEL, "prompt": "hello world", "max_tokens": 4, "stream": True} | fields
    events = server.request("POST", COMPLETION, body).body.decode().split("\n\n")[:-2]
    chunks = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    for index, choice in enumerate(plain):
        own = [chunk for chunk in chunks if chunk["index"] == index]
        assert "".join(chunk["text"] for chunk in own) == choice["text"]
        for name in ("tokens", "text_offset"):
            parts = [chunk["logprobs"][name] for chunk in own if chunk["logprobs"]]
            assert [value for part in parts for value in part] == choice["logprobs"][name]


def test_vllms_field_scores_the_prompt_on_both_routes(server: RuntimeServer) -> None:
    ids = server.request("POST", "/tokenize", {"prompt": "hello world"}).json["tokens"]
    found = complete(server, prompt_logprobs=2)["choices"][0]["prompt_logprobs"]
    assert found[0] is None
    assert [str(id) in entry for id, entry in zip(ids[1:], found[1:], strict=True)] == [True] * (
        len(ids) - 1
    )
    assert all(2 <= len(entry) <= 3 for entry in found[1:])
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    answer = server.request("POST", "/v1/chat/completions", chat | {"prompt_logprobs": 0}).json
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]


def test_a_completion_of_no_tokens_is_empty(server: RuntimeServer) -> None:
    answer = complete(server, max_tokens=0)
    assert answer["choices"][0]["text"] == ""
    assert answer["usage"]["completion_tokens"] == 0
