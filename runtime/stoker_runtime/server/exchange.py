"""One HTTP request and the writing of its answer: plain, or as a stream of server-sent events.

Knows status lines, headers, chunked coding and its absence for HTTP/1.0; does not know routes or
what is answered. Made by the connection, written by the routes and by the streams.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from stoker_runtime.server.refusal import Refusal

_PHRASES = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(slots=True)
class Request:
    """What the client sent; header names are in lower case."""

    method: str
    path: str
    """Without the query; exactly as sent, so that nothing is matched that was not written."""
    http_1_0: bool
    keep_alive: bool
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    query: str = ""


class Wire(Protocol):
    """The connection, as far as an answer needs it."""

    @property
    def paused(self) -> bool:
        """The client reads slower than we write."""

    def write(self, data: bytes) -> None:
        """Send bytes."""


class Exchange:
    """A request and its answer. Either `send` once, or `begin`, `write` and `end`."""

    __slots__ = ("_head", "_wire", "ended", "keep_alive", "on_writable", "request", "request_id")

    def __init__(self, request: Request, wire: Wire, *, keep_alive: bool) -> None:
        """`keep_alive`: whether the connection may serve another request after this one."""
        self.request = request
        self.request_id = "req_" + os.urandom(16).hex()
        self.keep_alive = keep_alive and request.keep_alive and not request.http_1_0
        self.ended = False
        self.on_writable: Callable[[], None] | None = None
        self._wire = wire
        self._head: bytes | None = None
        """The head of a stream until its first bytes; empty from then on."""

    @property
    def started(self) -> bool:
        """Bytes of the answer are on their way, so its status can't change any more."""
        return self.ended or self._head == b""

    @property
    def paused(self) -> bool:
        """The client reads slower than we write; `on_writable` is called when it has caught up."""
        return self._wire.paused

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The whole answer."""
        length = {"content-length": str(len(body))}
        head = self._render_head(status, content_type, length | dict(headers or {}))
        self.ended = True
        self._wire.write(head if self.request.method == "HEAD" else head + body)

    def refuse(self, refusal: Refusal) -> None:
        """The whole answer is an error."""
        self.send(refusal.status, refusal.body, headers=refusal.headers)

    def begin(self) -> None:
        """Start a stream of events; the head leaves with the first bytes."""
        coding = {} if self.request.http_1_0 else {"transfer-encoding": "chunked"}
        self._head = self._render_head(
            200, "text/event-stream; charset=utf-8", _STREAM_HEADERS | coding
        )

    def write(self, data: bytes) -> None:
        """Send a part of a stream, in one write."""
        head, self._head = self._head or b"", b""
        self._wire.write(head + self._chunk(data))

    def end(self, data: bytes) -> None:
        """Send the last part of a stream, in one write."""
        head, self._head = self._head or b"", b""
        self.ended = True
        last = b"" if self.request.http_1_0 else b"0\r\n\r\n"
        self._wire.write(head + self._chunk(data) + last)

    def _chunk(self, data: bytes) -> bytes:
        if self.request.http_1_0:  # has no chunked coding: the answer ends with the connection
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def _render_head(self, status: int, content_type: str, headers: Mapping[str, str]) -> bytes:
        lines = [
            f"content-type: {content_type}",
            f"x-request-id: {self.request_id}",
            f"date: {_http_date(int(time.time()))}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if not self.keep_alive:
            lines.append("connection: close")
        text = "\r\n".join(lines).encode("latin-1")
        return b"HTTP/1.1 %d %b\r\n%b\r\n\r\n" % (status, _PHRASES[status], text)


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    """It changes once a second; formatting it costs more than the rest of the head."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
