"""The client side: pooled keep-alive connections to runtime pods, one request on each at a time.

Knows connecting, framing, reuse and abort; does not know retries or what an answer means: a `Sink`
hears head, body and end as they come, in the event-loop step in which they came.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Protocol, cast

import httptools

from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.reply import Headers

MAX_IDLE = 512
"""Idle connections kept per pod; more are closed as they become idle."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
USER_TIMEOUT_MS = 20_000
"""A pod whose node vanished is noticed after this, not after minutes."""


class Sink(Protocol):
    """Takes one answer."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers, names in lower case."""

    def on_body(self, data: bytes) -> None:
        """What came of the body in one read."""

    def on_end(self) -> None:
        """The answer is complete; the connection may already serve another."""

    def on_lost(self) -> None:
        """The connection ended before the answer did."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to one pod."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._ended = False
        self._until_close = False
        self._reusable = False
        self._paused = False
        self.used = False
        """Whether it carried an answer before: then its end may only mean that it was idle."""

    @property
    def closing(self) -> bool:
        """Whether it cannot be used any more."""
        return self._transport.is_closing()

    def send(self, data: bytes, sink: Sink) -> None:
        """Write a whole request; its answer goes to `sink`."""
        self._sink = sink
        self._ended = self._until_close = False
        self._headers = []
        self._transport.write(data)

    def abort(self) -> None:
        """Cut it: the pod notices at once that nobody waits any more."""
        self._sink = None
        self._transport.abort()

    def pause(self) -> None:
        """Read no more until `resume`."""
        self._paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: set what finds out dead peers."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        """Parse, then hand over what came of the body as one piece."""
        if self._sink is None:
            self._transport.abort()  # nobody asked: whatever comes later could be mistaken
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lose()
            return
        self._flush()
        if self._ended:
            self._end()

    def eof_received(self) -> bool:
        """The end of an answer without length, or a loss."""
        if self._until_close and self._sink:
            sink, self._sink = self._sink, None
            sink.on_end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: tell whoever waits for an answer."""
        self._pool.forget(self)
        self._lose()

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head, unless it is an interim one."""
        status: int = self._parser.get_status_code()
        if status < 200 or self._ended:
            self._headers = []
            return
        names = {name for name, _ in self._headers}
        self._until_close = not names & {b"content-length", b"transfer-encoding"}
        if self._sink:
            self._sink.on_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._ended:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        """The last byte was parsed; a second answer behind it makes the connection unusable."""
        self._reusable = not self._ended and self._parser.should_keep_alive()
        self._ended = self._ended or self._parser.get_status_code() >= 200

    # inside

    def _flush(self) -> None:
        if not self._parts:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self._sink:
            self._sink.on_body(data)

    def _end(self) -> None:
        sink, self._sink = self._sink, None
        self.used = True
        self.resume()
        if sink and self._reusable and not self._transport.is_closing():
            self._pool.give_back(self)
        else:
            self._transport.close()
        if sink:
            sink.on_end()

    def _lose(self) -> None:
        sink, self._sink = self._sink, None
        if not self._transport.is_closing():
            self._transport.abort()
        if sink:
            sink.on_lost()


class Pool:
    """The connections to one address."""

    def __init__(self, address: str, connect_timeout_s: float) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[UpstreamConnection] = []
        self._closed = False

    def take_idle(self) -> UpstreamConnection | None:
        """The connection used last, if one is idle."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises `UpstreamError`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), self._host.strip("[]"), self._port
                )
        except (OSError, TimeoutError, OverflowError) as error:
            raise UpstreamError("connect") from error
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        if self._closed or len(self._idle) >= MAX_IDLE:
            connection.abort()
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection ended."""
        with suppress(ValueError):
            self._idle.remove(connection)

    def close(self) -> None:
        """Close idle connections; those in use end with their answer."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()


class Pools:
    """One pool per address."""

    def __init__(self, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._pools: dict[str, Pool] = {}

    def __getitem__(self, address: str) -> Pool:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = Pool(address, self._connect_timeout_s)
        return pool

    def drop(self, address: str) -> None:
        """Nobody will ask this address again."""
        pool = self._pools.pop(address, None)
        if pool:
            pool.close()

    def close(self) -> None:
        """Close all."""
        for address in list(self._pools):
            self.drop(address)
