"""Hostile clients and mad pods around a whole gateway: nothing crashes, no slot is lost.

After every test the same workers answer a good request on each connection, hold and run nothing,
and have logged no traceback. Every answer is whole HTTP, and every refusal has OpenAI's error body.
"""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import raw_http
from support.gateway_process import GatewayProcess, gateway_process
from support.hostile import CLOSE, REFUSED, fuzz, judged, post, slow_heads
from support.odd_pod import run_odd_pod
from support.raw_http import Answer, CutShort, parse
from support.runtime_server import wait_until

BODY = b'{"id": "x", "choices": []}'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
WHOLE = JSON_HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EVENTS = b'data: {"choices": []}\n\ndata: [DONE]\n\n'
STREAM = STREAM_HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    len(EVENTS),
    EVENTS,
)
MAX_BODY_BYTES = 1 << 20


class Stand:
    """A gateway of two workers, a pod that says anything, and what both did."""

    def __init__(self, process: GatewayProcess, log: Path, pod: str) -> None:
        self.process = process
        self.port = process.port
        self.log = log
        self._pod = pod

    def announce(self) -> None:
        """The pod is there, and ready again whatever it did."""
        said = {"namespace": "default", "deployment": "chat", "pod": "chat-1", "phase": "Ready"}
        body = json.dumps(said | {"address": self._pod, "slots": 4}).encode()
        for url in self.process.internal:
            urllib.request.urlopen(f"{url}/internal/announce", body).close()

    def gauge(self, name: str) -> float:
        """The sum over both workers."""
        total = 0.0
        for url in self.process.internal:
            with urllib.request.urlopen(f"{url}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            total += sum(float(li.split()[-1]) for li in lines if li.startswith(f"{name}{{"))
        return total

    def send(self, *parts: bytes) -> list[Answer]:
        """Send, say that no more comes, and read all answers."""
        return judged(parse(raw_http.exchange(self.port, parts)))

    def ask(self, request: bytes) -> list[Answer]:
        """The same, without a word that no more comes, which would cancel the answer."""
        return judged(parse(raw_http.exchange(self.port, [request], ends=False)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    small = {"max_body_bytes": MAX_BODY_BYTES, "probe_min_s": 0.01, "probe_max_s": 0.05}
    with asyncio.Runner() as runner, run_odd_pod() as pod, log.open("wb") as file:
        context = gateway_process(file, **small)
        process = runner.run(context.__aenter__())
        try:
            yield Stand(process, log, pod)
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def stand(running: Stand) -> Iterator[Stand]:
    """The gateway, which must be well again when the test has ended."""
    running.announce()
    yield running
    assert running.process.process.returncode is None
    for _ in range(8):  # connections fall on either worker
        [answer] = running.ask(told([WHOLE], "keep"))
        assert (answer.status, answer.body) == (200, BODY)
    wait_until(lambda: running.gauge("stoker_gateway_running") == 0, 20)
    wait_until(lambda: running.gauge("stoker_gateway_queued") == 0, 20)
    said = running.log.read_text()
    assert "Traceback" not in said, said
    assert "replace" not in said, said


def told(say: Sequence[bytes], end: str = "close", **fields: object) -> bytes:
    """A request that tells the pod what to answer."""
    script = {"model": "chat", "say": [part.hex() for part in say], "end": end} | fields
    return post(json.dumps(script).encode(), CLOSE)


GOOD = told([WHOLE], "keep")


@fuzz
@given(cut=st.integers(0, len(GOOD)), junk=st.binary(max_size=40))
def test_requests_that_are_cut_off_or_garbled(stand: Stand, cut: int, junk: bytes) -> None:
    stand.send(GOOD[:cut] + junk)


@fuzz
@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_http(stand: Stand, junk: bytes) -> None:
    for answer in stand.send(junk + b"\r\n\r\n"):
        assert answer.status in (400, 404, 405, 408, 413, 431, 501, 505)


MORE = {
    "model as a list": (post(b'{"model": ["chat"]}', CLOSE), 400),
    "endless model": (post(b'{"model": "' + b"x" * 100_000 + b'"}', CLOSE), 404),
}


@pytest.mark.parametrize(("request_bytes", "status"), (REFUSED | MORE).values(), ids=REFUSED | MORE)
def test_bodies_and_heads_that_are_refused(stand: Stand, request_bytes: bytes, status: int) -> None:
    assert [answer.status for answer in stand.ask(request_bytes)] == [status]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats() | st.text(max_size=8)
    | st.sampled_from([2**70, 1e308, "\ud800", "\x00", "chat", "default/chat"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip


@fuzz
@given(st.dictionaries(st.sampled_from(["model", "stream", "x", ""]), anything, min_size=1))
def test_any_value_in_any_field(stand: Stand, fields: dict[str, Any]) -> None:
    [answer] = stand.ask(told([WHOLE], "keep", **fields))
    assert answer.status in (200, 400, 404)


def test_pipelined_requests_are_answered_in_order(stand: Stand) -> None:
    kept = GOOD.replace(b"connection: close\r\n", b"")
    other = kept.replace(b'"chat"', b'"chap"')
    stream = told([STREAM], "keep", stream=True).replace(b"connection: close\r\n", b"")
    answers = stand.ask(kept + other + stream + GOOD)
    assert [answer.status for answer in answers] == [200, 404, 200, 200]
    assert answers[2].body == EVENTS


def test_many_slow_heads_hold_nobody_up(stand: Stand) -> None:
    with slow_heads(stand.port):
        assert stand.ask(GOOD)[0].status == 200


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_readers_that_leave_take_their_answers_along(stand: Stand, size: int) -> None:
    long = STREAM_HEAD + b"\r\n" + EVENTS * 2000
    for _ in range(12):
        with socket.create_connection(("127.0.0.1", stand.port), timeout=60) as sock:
            sock.sendall(told([long], stream=True))
            if size:
                sock.recv(size)


heads = st.sampled_from([JSON_HEAD, STREAM_HEAD, b"HTTP/1.1 204 No\r\n", b"HTTP/1.0 200 OK\r\n"])
framings = st.sampled_from([
    b"content-length: 26\r\n", b"content-length: 99\r\n", b"content-length: -1\r\n", b"",
    b"transfer-encoding: chunked\r\n", b"content-length: 3\r\ncontent-length: 4\r\n",
    b"connection: upgrade\r\nupgrade: x\r\n", b"x: \xff\xfe\r\n", b"x: " + b"y" * 70_000 + b"\r\n",
    b"x-stoker-refused: \xff\r\n", b"content-encoding: gzip\r\n",
])  # fmt: skip
bodies = st.sampled_from([b"\r\n" + BODY, b"\r\n1a\r\n" + BODY + b"\r\n0\r\n\r\n", b"\r\n", b""])
statuses = st.sampled_from([100, 101, 103, 199, 204, 304, 401, 429, 500, 503, 599, 999])
odd_statuses = st.builds(b"HTTP/1.1 %d Odd\r\ncontent-length: 0\r\n\r\n".__mod__, statuses)
garbage = st.one_of(
    st.tuples(heads, framings, bodies),
    st.tuples(st.binary(max_size=60)),
    st.tuples(odd_statuses, st.sampled_from([b"", WHOLE])),
    st.tuples(st.just(STREAM), st.binary(max_size=20)),
    st.integers(0, len(STREAM)).map(lambda cut: (STREAM[:cut],)),
    st.integers(0, len(WHOLE)).map(lambda cut: (WHOLE[:cut],)),
)


@settings(fuzz, max_examples=100)
@given(garbage, st.sampled_from(["close", "reset"]), st.booleans())
def test_a_pod_that_says_anything(
    stand: Stand, say: tuple[bytes, ...], end: str, stream: bool
) -> None:
    """A whole answer with the gateway's mark on it, or a connection cut so that nobody errs."""
    stand.announce()
    received = raw_http.exchange(stand.port, [told(say, end, stream=stream)], ends=False)
    with suppress(CutShort):
        [answer] = parse(received)
        assert answer.headers["x-request-id"].startswith("req-")
