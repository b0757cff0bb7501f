"""Tokens of requests, learned from what answers say."""

from __future__ import annotations

import json

import pytest

from stoker_gateway.tokens import TAIL_BYTES, TokenCount, Usage, find_usage

PLAIN = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


@pytest.mark.parametrize(
    ("tail", "usage"),
    [
        pytest.param(json.dumps({"usage": PLAIN}), Usage(12, 5), id="plain"),
        pytest.param(
            json.dumps({"usage": PLAIN}, separators=(",", ":")), Usage(12, 5), id="compact"
        ),
        pytest.param(
            'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,'
            '"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n',
            Usage(7, 9),
            id="stream",
        ),
        pytest.param('{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4), id="responses"),
        pytest.param('{"usage":{"prompt_tokens":3,"total_tokens":3}}', Usage(3, 0), id="embedding"),
        pytest.param(
            '{"usage":{"prompt_tokens":1,"completion_tokens":1}}\n'
            '{"usage":{"prompt_tokens":1,"completion_tokens":2}}',
            Usage(1, 2),
            id="the last of several",
        ),
        pytest.param('data: {"choices":[]}\n\ndata: [DONE]\n\n', None, id="a stream without"),
        pytest.param(json.dumps({"content": '"prompt_tokens": 99'}), None, id="quoted by a model"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_finds_what_an_answer_says_of_itself(tail: str, usage: Usage | None) -> None:
    assert find_usage(tail.encode()[-TAIL_BYTES:]) == usage


def test_four_bytes_are_a_token_until_an_answer_says_otherwise() -> None:
    tokens = TokenCount()
    tokens.come(400)
    assert tokens.arrived == 100


def test_the_ratio_follows_the_answers_and_what_came_before_stays() -> None:
    tokens = TokenCount()
    for _ in range(500):
        tokens.end(600, Usage(100, 10))
    assert tokens.bytes_per_token == pytest.approx(6, rel=0.01)
    tokens.come(600)
    assert tokens.arrived == pytest.approx(100, rel=0.01)
    for _ in range(1000):
        tokens.end(200, Usage(100, 10))
    assert tokens.bytes_per_token == pytest.approx(2, rel=0.02)
    assert tokens.arrived == pytest.approx(100, rel=0.01)


def test_an_answer_without_usage_counts_as_a_mean_one() -> None:
    tokens = TokenCount()
    tokens.end(10, None)
    assert tokens.completed == 0
    tokens.end(10, Usage(5, 20))
    tokens.end(10, Usage(5, 40))
    assert tokens.completed == 60
    tokens.end(10, None)
    assert tokens.completed == pytest.approx(90, rel=0.01)


def test_an_answer_that_denies_its_prompt_teaches_nothing_about_bytes() -> None:
    tokens = TokenCount()
    tokens.end(10**6, Usage(0, 1))
    assert tokens.bytes_per_token == 4
