"""Hostile clients on raw sockets against the whole runtime: nothing crashes, nothing leaks.

After every test the same server answers a good request, runs nothing and holds no block of its KV
cache. Every answer, in whatever state the client left the connection, is whole HTTP, and every
refusal has OpenAI's error body.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import raw_http
from support.hostile import CLOSE, REFUSED, fuzz, judged, post, slow_heads
from support.raw_http import Answer, CutShort, parse
from support.runtime_server import RuntimeServer, run_tiny_chat, wait_until

GOOD = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "What is 27 + 15?"}],
    "max_tokens": 3,
}
LONG = GOOD | {"max_tokens": 400, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    with run_tiny_chat(log) as server:
        yield server


@pytest.fixture
def server(running: RuntimeServer) -> Iterator[RuntimeServer]:
    """The server, which must be well again when the test has ended."""
    yield running
    assert running.process.poll() is None
    answer = running.request("POST", "/v1/chat/completions", GOOD)
    assert answer.status == 200, answer.body
    wait_until(lambda: running.metric("stoker_runtime_num_requests_running") == 0, 30)
    wait_until(lambda: running.metric("stoker_runtime_kv_cache_usage_perc") == 0, 30)
    assert b"Traceback" not in running.log.read_bytes()


def chat(body: object, *headers: str) -> bytes:
    return post(json.dumps(body).encode(), *headers)


def exchange(server: RuntimeServer, *parts: bytes) -> list[Answer]:
    """Send, say that no more comes, and read all answers; a stream is cut when its reader goes."""
    received = raw_http.exchange(server.port, parts)
    try:
        return judged(parse(received))
    except CutShort:
        assert b"text/event-stream" in received
        return []


@fuzz
@given(cut=st.integers(0, 400), junk=st.binary(max_size=40))
def test_requests_that_are_cut_off_or_garbled(server: RuntimeServer, cut: int, junk: bytes) -> None:
    exchange(server, chat(GOOD, CLOSE)[:cut] + junk)


@fuzz
@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_http(server: RuntimeServer, junk: bytes) -> None:
    for answer in exchange(server, junk + b"\r\n\r\n"):
        assert answer.status in (400, 401, 404, 405, 408, 413, 415, 431, 501, 505)


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
def test_bodies_and_heads_that_are_refused(
    server: RuntimeServer, request_bytes: bytes, status: int
) -> None:
    answers = exchange(server, request_bytes)
    assert [answer.status for answer in answers] == [status]


def test_pipelined_requests_are_answered_in_order(server: RuntimeServer) -> None:
    wrong = GOOD | {"model": "other"}
    parts = [chat(GOOD), chat(wrong), chat(GOOD | {"stream": True}), chat(GOOD, CLOSE)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(b"".join(parts))
        received = b""
        while part := sock.recv(1 << 16):
            received += part
    answers = judged(parse(received))
    assert [answer.status for answer in answers] == [200, 404, 200, 200]
    assert answers[2].body.endswith(b"data: [DONE]\n\n")


def test_many_slow_heads_hold_nobody_up(server: RuntimeServer) -> None:
    with slow_heads(server.port):
        assert server.request("POST", "/v1/chat/completions", GOOD).status == 200


def test_readers_that_leave_take_their_answers_along(server: RuntimeServer) -> None:
    for size in (1, 100, 1000, 3000) * 3:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
            sock.sendall(chat(LONG))
            sock.recv(size)


@pytest.mark.parametrize("is_stream", [True, False])
def test_senders_that_leave_at_once_leave_nothing(server: RuntimeServer, is_stream: bool) -> None:
    for _ in range(12):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
            sock.sendall(chat(LONG | {"stream": is_stream}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats() | st.text(max_size=8)
    | st.sampled_from([2**31, 2**63, -(2**70), 1e308, "\ud800", "\x00", "system", "user"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "0", "x"]), inner),
    max_leaves=6,
)  # fmt: skip
FIELDS = {
    *("model", "messages", "temperature", "top_p", "top_k"),
    *("min_p", "n", "stop", "stop_token_ids", "seed"),
    *("logit_bias", "logprobs", "top_logprobs", "stream", "stream_options"),
    *("user", "presence_penalty", "frequency_penalty", "echo", "priority"),
    *("repetition_penalty", "tools", "tool_choice", "response_format", "max_completion_tokens"),
    *("min_tokens", "ignore_eos", "chat_template_kwargs", "cache_salt", "prompt_logprobs"),
    *("extra", "metadata"),
}
mutations = st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, min_size=1, max_size=3)


@settings(fuzz, max_examples=120)
@given(mutations)
def test_chat_requests_with_any_value_in_any_field(
    server: RuntimeServer, changes: dict[str, Any]
) -> None:
    judge(exchange_whole(server, chat(GOOD | changes, CLOSE)))


@settings(fuzz, max_examples=40)
@given(st.lists(anything, max_size=3), st.sampled_from(["role", "content", "name", "tool_calls"]))
def test_messages_of_any_shape(server: RuntimeServer, values: list[Any], key: str) -> None:
    messages = [{"role": "user", "content": "hello", key: value} for value in values]
    judge(exchange_whole(server, chat(GOOD | {"messages": messages}, CLOSE)))


def exchange_whole(server: RuntimeServer, request: bytes) -> list[Answer]:
    """Without a word that no more comes, which would end the answer."""
    return judged(parse(server.raw(request, seconds=60)))


def judge(answers: list[Answer]) -> None:
    """One answer: a good one, or a refusal that blames the client."""
    [answer] = answers
    assert answer.status in (200, 400, 404, 422), answer.body
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.body.endswith((b"data: [DONE]\n\n", b"}\n\n"))
    else:
        assert isinstance(answer.json, dict)
