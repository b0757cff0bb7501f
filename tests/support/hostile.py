"""Requests that no HTTP server of ours may take, and clients that never come to the point.

One list for two servers, the gateway's and the runtime's; each adds what only it can judge.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings

from support.raw_http import Answer

CLOSE = "connection: close"
fuzz = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def post(body: bytes, *headers: str, length: object = None) -> bytes:
    """A chat request; `length` is announced instead of the body's own."""
    said = f"content-length: {len(body) if length is None else length}"
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json"]
    return "\r\n".join([*lines, said, *headers, "", ""]).encode() + body


def _say(text: bytes) -> bytes:
    """As the model's name, which the gateway reads, and in a message, which the runtime reads."""
    body = b'{"model": "%b", "messages": [{"role": "user", "content": "%b"}]}' % (text, text)
    return post(body, CLOSE)


NO_NUMBERS = ("-1", "+5", "1e3", "0x10", "9" * 30, "", "5, 5", "five", "5 5")
REFUSED: dict[str, tuple[bytes, int]] = {
    "2 GB announced": (post(b"{}", length=2 << 30), 413),
    "1 MB header": (post(b"{}", "x: " + "y" * (1 << 20)), 431),
    "20000 headers": (post(b"{}", *(f"x-{n}: y" for n in range(20_000))), 431),
    "two lengths": (post(b"{}", "content-length: 3"), 400),
    "length and chunks": (post(b"{}", "transfer-encoding: chunked"), 400),
    **{f"a length of {n!r}"[:24]: (post(b"{}", CLOSE, length=n), 400) for n in NO_NUMBERS},
    "UTF-16": (post(b"\xff\xfe{}", CLOSE), 400),
    "broken UTF-8": (_say(b"\xc3\x28"), 400),
    "lone surrogate": (_say(b"\\ud800"), 400),
    "deep list": (post(b"[" * 100_000, CLOSE), 400),
    "deep object": (post(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, CLOSE), 400),
    "cut off": (post(b'{"model": "chat", "messages": [', CLOSE), 400),
    "nothing": (post(b"", CLOSE), 400),
    "null": (post(b"null", CLOSE), 400),
    "NaN": (post(b"NaN", CLOSE), 400),
}


def judged(answers: list[Answer]) -> list[Answer]:
    """Refusals have OpenAI's error body."""
    for answer in answers:
        assert answer.status < 400 or answer.error["message"]
    return answers


@contextmanager
def slow_heads(port: int) -> Iterator[None]:
    """Two hundred clients that send a head byte by byte and never end it."""
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for byte in b"POST /v1/chat":
            for sock in slow:
                sock.send(bytes([byte]))
        yield
    finally:
        for sock in slow:
            sock.close()
