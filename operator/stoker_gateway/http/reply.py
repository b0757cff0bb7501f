"""One answer on its way to a client: head, body, end, in the framing that the client understands.

Knows content length, chunks, and that HTTP/1.0 ends with the connection; does not know requests'
meaning. Written by apps and the proxy, made by `connection`, which hears when it is finished.
"""

from __future__ import annotations

import time
from asyncio import WriteTransport
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from stoker_gateway.errors import ApiError

Headers = list[tuple[bytes, bytes]]
EVENT_STREAM = b"text/event-stream"
EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
JSON: Headers = [(b"content-type", b"application/json")]

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class _Clock:
    """The `date` line, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """`date: Sat, 21 Nov 2026 09:00:00 GMT`."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


_clock = _Clock()


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK`, with the line end."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()


class Reply:
    """The answer to one request."""

    __slots__ = (
        "_chunked",
        "_ending",
        "_is_sse",
        "_on_finish",
        "_transport",
        "finished",
        "gone",
        "head_only",
        "headers",
        "http10",
        "keep_alive",
        "on_writable",
        "paused",
        "request_id",
        "started_at",
        "status",
    )

    def __init__(
        self, transport: WriteTransport, request_id: str, on_finish: Callable[[Reply], None]
    ) -> None:
        self._transport = transport
        self._on_finish = on_finish
        self._chunked = False
        self._is_sse = False
        self._ending = b""
        self.request_id = request_id
        self.headers: Headers = []
        self.http10 = False
        self.head_only = False
        self.keep_alive = True
        self.finished = False
        self.gone = False
        self.paused = False
        self.on_writable: Callable[[], None] | None = None
        self.status = 0
        self.started_at = 0.0

    @property
    def started(self) -> bool:
        """Whether the head was sent: then errors can only be told inside the body."""
        return self.status != 0

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head. Without a length the body is chunked, or ends with the connection."""
        if self.finished:
            return
        self.status = status
        self.started_at = time.monotonic()
        self._is_sse = dict(headers).get(b"content-type", b"").startswith(EVENT_STREAM)
        parts = [status_line(status)]
        parts += [b"%b: %b\r\n" % header for header in (*headers, *self.headers)]
        parts += (b"x-request-id: ", self.request_id.encode(), b"\r\n", _clock.line())
        parts += (self._frame(status, length), b"\r\n")
        self._transport.write(b"".join(parts))

    def _frame(self, status: int, length: int | None) -> bytes:
        bodiless = status == 204 or status == 304
        if length is None and not bodiless and not self.head_only:
            self._chunked = not self.http10
            self.keep_alive = self.keep_alive and self._chunked
        framing = b""
        if length is not None and not bodiless:
            framing = b"content-length: %d\r\n" % length
        elif self._chunked:
            framing = b"transfer-encoding: chunked\r\n"
        return framing if self.keep_alive else framing + b"connection: close\r\n"

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if not data or self.head_only or self.finished:
            return
        self._ending = (self._ending + data[-4:])[-4:]
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)

    def finish(self) -> None:
        """The body is complete."""
        if self.finished:
            return
        if self._chunked and not self.head_only:
            self._transport.write(b"0\r\n\r\n")
        self.finished = True
        self._on_finish(self)

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """A whole answer."""
        self.start(status, headers, len(body))
        self.write(body)
        self.finish()

    def fail(self, error: ApiError) -> None:
        """An error, in whatever way is still possible: as the answer, as the last event, or a cut.

        Inside an event, or a body that is no stream, it would be read as a part of it.
        """
        if self.finished:
            return
        if not self.started:
            self.respond(error.status, JSON + error.headers, error.body)
        elif self._is_sse and (not self._ending or self._ending.endswith(EVENT_ENDS)):
            self.write(error.event)
            self.finish()
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the connection, so that nobody takes what was sent for the whole."""
        self.finished = True
        self._transport.abort()
