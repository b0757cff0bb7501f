"""HTTP/1.1 on one connection: parse, screen, hand to the application, keep alive or close.

Knows bytes, limits and deadlines; does not know routes. A small server of our own on httptools
(llhttp), because the general ones import for longer than a cold start may take; see DECISIONS.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from stoker_runtime.server import refusal
from stoker_runtime.server.exchange import Exchange, Request
from stoker_runtime.server.refusal import Refusal

log = logging.getLogger(__name__)

_DISCARD_BYTES = 64 << 10
"""A refused body up to this size is read and thrown away, so that the connection lives on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost before anything was looked at."""

    header_bytes: int = 32 << 10
    body_bytes: int = 8 << 20
    """About 2 million tokens of text, or one million token ids."""
    head_s: float = 30.0
    """For the whole head to arrive."""
    body_s: float = 120.0
    """For the whole body to arrive."""
    keep_alive_s: float = 90.0
    """Longer than clients keep unused connections, so that they close first."""
    stalled_s: float = 60.0
    """How long a client may leave a full buffer unread."""
    linger_s: float = 2.0
    """How long an unread body may still come in after a refusal, so that the client can read it."""


class Application(Protocol):
    """What a connection serves."""

    def screen(self, request: Request) -> Refusal | None:
        """Judge the head alone, before the body is read."""

    async def handle(self, exchange: Exchange) -> None:
        """Answer; cancelled when the client hangs up. May raise `Refusal` before the first byte."""


class HttpServer:
    """The connections of one port."""

    def __init__(self, application: Application, limits: Limits | None = None) -> None:
        """Serve `application`."""
        self.application = application
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.closing = False
        """Answers announce the end of their connection."""

    def __call__(self) -> Connection:
        """A protocol for one more connection."""
        return Connection(self)

    @property
    def num_active(self) -> int:
        """Requests whose answers are not ended."""
        return sum(connection.active for connection in self.connections)

    def close_idle(self) -> None:
        """Close every connection that waits for a request."""
        for connection in [c for c in self.connections if not c.active]:
            connection.close()


class Connection(asyncio.Protocol):
    """One client's connection; requests on it are answered one after another."""

    def __init__(self, server: HttpServer) -> None:
        """Made by `HttpServer`."""
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Exchange, Refusal | None]] = deque()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        self._refusal: Refusal | None = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._unread_bytes = 0
        """What came since the last whole head or piece of a body: of a head, or trailers."""
        self._in_head = False
        self._deaf = False
        """What still comes in is thrown away: the connection is about to close."""
        self.paused = False

    @property
    def active(self) -> bool:
        """A request is being answered, or one has come in whole and waits."""
        return self._exchange is not None or bool(self._queue)

    def write(self, data: bytes) -> None:
        """Send bytes of an answer; nobody hears those that come between a reset and its news."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was written has left, which the client has to read in time."""
        self._transport.close()
        self._arm(self._limits.stalled_s, self._transport.abort)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        self._arm(self._limits.head_s, self.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody waits for what is being answered."""
        self._server.connections.discard(self)
        self._disarm()
        self._queue.clear()
        if self._stalled:
            self._stalled.cancel()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.paused = True
        self._stalled = self._loop.call_later(self._limits.stalled_s, self._transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.paused = False
        if self._stalled:
            self._stalled.cancel()
        if self._exchange and self._exchange.on_writable:
            self._exchange.on_writable()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._deaf:
            return
        self._unread_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            log.exception("a request can't be taken in")
            self._fail(refusal.internal_error())
            return
        except httptools.HttpParserError:
            self._fail(refusal.bad_http())
            return
        self._check_head_size(self._unread_bytes)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._request, self._refusal = None, None
        self._target, self._headers, self._head_bytes = b"", {}, 0
        self._in_head = True
        if not self.active:
            self._arm(self._limits.head_s, self._time_out)

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; a repeated one is joined, so that two keys never count as one."""
        if not self._in_head:
            return  # a trailer
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._head_bytes += len(name) + len(value) + 4
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """The head is whole: refuse now what can be refused without the body."""
        self._in_head, self._unread_bytes = False, 0
        if self._wants_upgrade():
            return
        self._check_head_size(self._head_bytes)
        if self._deaf:
            return
        if not self._is_http_1():
            self._fail(refusal.bad_http())
            return
        self._request = self._read_head()
        self._refusal = self._screen(self._request)
        if self._refusal and not self._body_is_small():
            self._fail(self._refusal)
        elif self._headers.get("expect", "").lower() == "100-continue" and not self.active:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.active and not self._deaf:
            self._arm(self._limits.body_s, self._time_out)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unread_bytes = 0
        request = self._request
        if self._deaf or self._refusal or request is None:
            return
        request.body += body
        if len(request.body) > self._limits.body_bytes:
            self._fail(refusal.body_too_large(self._limits.body_bytes))

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._deaf or self._request is None:
            return
        keep_alive = not self._server.closing
        self._queue.append((Exchange(self._request, self, keep_alive=keep_alive), self._refusal))
        if self._exchange:
            self._transport.pause_reading()  # one at a time; the next waits in the socket
        else:
            self._next()

    # From here on: ours.

    def _feed(self, data: bytes) -> None:
        while data and not self._deaf:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline_upgrade() + data[upgrade.args[0] :]

    def _wants_upgrade(self) -> bool:
        return self._parser.should_upgrade() and "upgrade" in self._headers

    def _decline_upgrade(self) -> bytes:
        """The head anew without that wish: the parser takes the body for the new protocol's.

        Java's client and `curl --http2` wish for HTTP/2 with every first request.
        """
        parser = self._parser
        if self._request is not None:  # a tunnel; the request itself is answered
            self._deaf = True
            return b""
        version = parser.get_http_version().encode()
        first = b"%b %b HTTP/%b" % (parser.get_method(), self._target, version)
        headers = (f"{name}: {text}" for name, text in self._headers.items() if name != "upgrade")
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([first, *(line.encode("latin-1") for line in headers), b"", b""])

    def _is_http_1(self) -> bool:
        version = self._parser.get_http_version()
        return version == "1.0" or (version == "1.1" and "host" in self._headers)

    def _read_head(self) -> Request:
        return Request(
            method=self._parser.get_method().decode("latin-1"),
            path=_path_of(self._target),
            http_1_0=self._parser.get_http_version() == "1.0",
            keep_alive=self._parser.should_keep_alive(),
            headers=self._headers,
            query=self._target.partition(b"?")[2].decode("latin-1"),
        )

    def _screen(self, request: Request) -> Refusal | None:
        if int(request.headers.get("content-length", "0")) > self._limits.body_bytes:
            return refusal.body_too_large(self._limits.body_bytes)
        return self._server.application.screen(request)

    def _body_is_small(self) -> bool:
        headers = self._headers
        if "transfer-encoding" in headers or "expect" in headers:
            return False
        return int(headers.get("content-length", "0")) <= _DISCARD_BYTES

    def _check_head_size(self, num_bytes: int) -> None:
        if num_bytes > self._limits.header_bytes:
            self._fail(refusal.headers_too_large(self._limits.header_bytes))

    def _time_out(self) -> None:
        self._fail(refusal.too_slow())

    def _fail(self, why: Refusal) -> None:
        """Answer with an error and close, without reading on."""
        self._deaf = True
        if self.active:  # the answer before this request ends first; then the connection closes
            return
        request = self._request or Request("GET", "", False, False, {})
        Exchange(request, self, keep_alive=False).refuse(why)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._arm(self._limits.linger_s, self.close)

    def _next(self) -> None:
        """Take up the next request that has come in whole."""
        while self._queue and self._exchange is None:
            self._disarm()
            self._exchange, why = self._queue.popleft()
            if not self._queue:
                self._transport.resume_reading()  # also to notice a hang-up
            if why:
                self._exchange.refuse(why)
                self._finish(self._exchange)
            else:
                self._task = self._loop.create_task(self._serve(self._exchange))

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._server.application.handle(exchange)
        except Refusal as why:
            if not exchange.started:
                exchange.refuse(why)
        except asyncio.CancelledError:
            return  # the client hung up
        except Exception:
            log.exception("%s %s failed", exchange.request.method, exchange.request.path)
            if not exchange.started:
                exchange.refuse(refusal.internal_error())
        self._finish(exchange)
        self._next()

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = self._task = None
        if self._transport.is_closing():
            return
        if not exchange.ended or not exchange.keep_alive or self._deaf:
            self.close()
            return
        if not self._queue:
            self._arm(self._limits.keep_alive_s, self.close)

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, act)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _path_of(target: bytes) -> str:
    """The path as sent, without query; of `http://host/path`, as proxies send it, `/path`."""
    path = target.partition(b"?")[0]
    if path.startswith((b"http://", b"https://")):
        path = b"/" + b"/".join(path.split(b"/")[3:])
    return path.decode("latin-1")
