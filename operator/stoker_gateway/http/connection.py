"""One client connection: bytes in, requests out, one at a time and in order.

Knows HTTP/1.0 and 1.1 by llhttp, limits of head and body, keep-alive, pipelining, hang-ups, early
refusals with a lingering close. Does not know routes: a `Server` lends it the app and the limits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from stoker_gateway import errors
from stoker_gateway.errors import ApiError
from stoker_gateway.http.reply import Reply
from stoker_gateway.http.request import Request

if TYPE_CHECKING:
    from stoker_gateway.http.server import Server

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
SMALL_BODY_BYTES = 64 * 1024
"""A refused request whose body is at most this large is read to its end, to keep the connection."""
LINGER_S = 2.0
NEVER = float("inf")


class Connection(asyncio.Protocol):
    """Parses requests and hands each to the server's app when the one before is answered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._request: Request | None = None
        self._unread_bytes = 0
        """What came since the last whole head or piece of a body: of a head, or trailers."""
        self._body: bytes | bytearray = b""
        self._buffered_bytes = 0
        self._answered_bytes = 0
        self._refusal: ApiError | None = None
        self._waiting: deque[tuple[Request, ApiError | None]] = deque()
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._lagging = False
        self.deadline = NEVER

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return self._reply is None and self._request is None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: it has the read timeout to send a request."""
        self._transport = cast(asyncio.Transport, transport)
        self.deadline = time.monotonic() + self._server.limits.client_timeout_s
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; complete requests start from the parser's callbacks."""
        if self._closing:
            return
        self._unread_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:  # of ours: the client is not to blame
            log.exception("a request can't be taken in")
            self._refuse(errors.internal())
        except httptools.HttpParserError as error:
            self._refuse(errors.bad_request(f"Not a valid HTTP request: {error}", "bad_http"))
        if self._request and self._unread_bytes > MAX_HEAD_BYTES:
            self._refuse(ApiError(431, "headers_too_large", "The request's headers are too large."))

    def eof_received(self) -> bool:
        """A client that stops sending is gone; the transport closes itself."""
        self._gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended: so does what runs for it."""
        self._server.connections.discard(self)
        self._gone()
        self._count(-self._buffered_bytes)

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes."""
        self._lagging = True
        self.deadline = time.monotonic() + self._server.limits.client_timeout_s
        if self._reply:
            self._reply.paused = True

    def resume_writing(self) -> None:
        """The client caught up."""
        self._lagging = False
        if self._reply:
            self.deadline = NEVER
            self._reply.paused = False
            if self._reply.on_writable:
                self._reply.on_writable()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._request = Request(self._server.next_id())
        self._refusal = None
        if self._reply is None:
            self.deadline = time.monotonic() + self._server.limits.client_timeout_s

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        if self._request:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers count for nothing (RFC 9110, 6.5.1)."""
        if self._request and not self._request.method:
            self._request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is known: refuse now what would be refused later."""
        request = self._request
        if request is None:
            return
        self._unread_bytes = 0
        if self._wants_upgrade(request):
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive() and not request.http10
        self._refusal = self._check(request)
        announced = request.announced_bytes
        if self._refusal and (announced is None or announced > SMALL_BODY_BYTES):
            self._refuse(self._refusal)
        elif request.wants_continue:
            self._continue()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._unread_bytes = 0
        if self._closing or self._refusal:
            return
        self._count(len(data))
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)
        limit = self._server.limits.max_body_bytes
        if len(self._body) > limit:
            self._refuse(errors.too_large(limit))
        elif self._server.full:
            self._refuse(errors.busy())

    def on_message_complete(self) -> None:
        """The request is complete: answer it, or let it wait for the one before."""
        request = self._request
        if request is not None and not request.method:
            return  # an upgrade: its body is still to come
        self._request = None
        if request is None or self._closing:
            return
        request.body, self._body = bytes(self._body), b""
        request.arrived_at = time.monotonic()
        if self._reply is None:
            self._answer(request, self._refusal)
            return
        if not self._waiting:
            self._transport.pause_reading()
        self._waiting.append((request, self._refusal))

    # inside

    def _feed(self, data: bytes) -> None:
        while data and not self._closing:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline_upgrade() + data[upgrade.args[0] :]

    def _wants_upgrade(self, request: Request) -> bool:
        return self._parser.should_upgrade() and b"upgrade" in request.headers

    def _decline_upgrade(self) -> bytes:
        """The head anew without that wish: the parser takes the body for the new protocol's.

        Java's client and `curl --http2` wish for HTTP/2 with every first request.
        """
        request, parser = self._request, self._parser
        if request is None:  # a tunnel, which was answered
            self._stop_keep_alive()
            return b""
        version = parser.get_http_version().encode()
        first = b"%b %b HTTP/%b" % (parser.get_method(), request.target, version)
        request.headers.pop(b"upgrade")
        lines = [b"%b: %b" % header for header in request.headers.items()]
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([first, *lines, b"", b""])

    def _check(self, request: Request) -> ApiError | None:
        try:
            self._server.check(request)
        except ApiError as error:
            return error
        return None

    def _continue(self) -> None:
        if self._reply is None and not self._refusal:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _stop_keep_alive(self) -> None:
        self._closing = True
        if self._reply:
            self._reply.keep_alive = False
        else:
            self._close()

    def _count(self, num_bytes: int) -> None:
        self._buffered_bytes += num_bytes
        self._server.buffered_bytes += num_bytes

    def _answer(self, request: Request, refusal: ApiError | None) -> None:
        reply = Reply(self._transport, request.id, self._on_finish)
        reply.headers = request.answer_headers
        reply.http10 = request.http10
        reply.head_only = request.method == "HEAD"
        reply.keep_alive = request.keep_alive and not self._server.draining
        reply.paused = self._lagging
        self._reply = reply
        self._answered_bytes = len(request.body)
        if not self._lagging:
            self.deadline = NEVER
        if refusal:
            reply.fail(refusal)
            self._server.app.ended(request, reply)
        else:
            self._task = self._server.start_task(request, reply)

    def _on_finish(self, reply: Reply) -> None:
        self._reply = None
        self._task = None
        self._count(-self._answered_bytes)
        if self._transport.is_closing():
            return
        if not reply.keep_alive:
            self._linger()
        elif self._waiting:
            self._answer_next()
        else:
            self.deadline = time.monotonic() + self._server.limits.keep_alive_s

    def _answer_next(self) -> None:
        request, refusal = self._waiting.popleft()
        if not self._waiting:
            self._transport.resume_reading()
        self._answer(request, refusal)

    def _refuse(self, error: ApiError) -> None:
        """Answer although the client still sends; the answer before, if any, ends first."""
        if self._closing:
            return
        if self._reply is not None:
            self._stop_keep_alive()
            return
        request = self._request = self._request or Request(self._server.next_id())
        request.keep_alive = False
        self._answer(request, error)

    def _linger(self) -> None:
        """Close; while the client still sends, later: a reset would take the answer from it."""
        self._body = b""
        self._waiting.clear()
        self._count(-self._buffered_bytes)
        if self._request is None:
            self._close()
        else:
            self._closing = True
            self._transport.write_eof()
            self.deadline = time.monotonic() + LINGER_S

    def _close(self) -> None:
        """Close when the client has read what was written, which it has to do in time."""
        self._closing = True
        self._transport.close()
        self.deadline = time.monotonic() + self._server.limits.client_timeout_s

    def _gone(self) -> None:
        self._waiting.clear()
        self._closing = True
        if self._reply:
            self._reply.gone = self._reply.finished = True
            self._reply = None
        if self._task:
            self._task.cancel()
            self._task = None

    @property
    def has_unsent(self) -> bool:
        """Whether the client has yet to read what was written."""
        return self._transport.get_write_buffer_size() > 0

    def close_if_idle(self) -> None:
        """Close a connection on which nothing happens."""
        if self.idle:
            self._transport.close()

    def abort(self) -> None:
        """End now, whatever happens on it."""
        self._transport.abort()

    def expire(self) -> None:
        """The deadline passed: idle, too slow to send, or too slow to read."""
        if self._reply is not None or self._closing:
            self._transport.abort()
        elif self._request is not None:
            self._refuse(ApiError(408, "request_timeout", "The request was not sent in time."))
        else:
            self._close()
