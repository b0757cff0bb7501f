"""A gateway's HTTP server with an app that says what it got, and a raw socket to it.

Knows paths that wait, stream and crash; does not know what is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stoker_gateway.errors import ApiError
from stoker_gateway.http.reply import JSON, Headers, Reply
from stoker_gateway.http.request import Request
from stoker_gateway.http.server import Limits, Server, bind

LIMITS = Limits(
    max_body_bytes=200_000, max_buffered_bytes=500_000, client_timeout_s=30, keep_alive_s=30
)


BIG_BYTES = 16 << 20
"""More than the sockets' buffers take."""
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
FAILING: dict[str, tuple[Headers, int | None, bytes]] = {
    "/half": (EVENTS, None, b"data: 1\n\n"),
    "/torn": (EVENTS, None, b"data: 1\n\ndata: {"),
    "/short": (JSON, 100, b'{"id": '),
}


@dataclass
class Echo:
    """Says what it got; `/stream` streams, `/wait` waits for the gate, `/crash` crashes.

    `/half` fails between two events, `/torn` inside one, `/short` inside a plain body.
    """

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Request] = field(default_factory=list)
    ended_with: list[int] = field(default_factory=list)
    num_cancelled: int = 0

    def check(self, request: Request) -> None:
        if request.path == "/secret":
            raise ApiError(401, "invalid_api_key", "no")
        if request.path == "/unjudged":
            raise RuntimeError("oops")

    async def __call__(self, request: Request, reply: Reply) -> None:
        self.seen.append(request)
        if request.path == "/stream":
            reply.start(200, [])
            reply.write(b"one")
            reply.write(b"")
            reply.write(b"two")
            reply.finish()
        elif request.path == "/crash":
            raise RuntimeError("oops")
        elif request.path in FAILING:
            headers, length, body = FAILING[request.path]
            reply.start(200, headers, length)
            reply.write(body)
            raise ApiError(502, "broken", "half way")
        elif request.path == "/big":
            reply.respond(200, [], bytes(BIG_BYTES))
        elif request.path == "/wait":
            await self._wait(reply)
        else:
            reply.respond(200, [], request.method.encode() + b" " + request.body)

    async def _wait(self, reply: Reply) -> None:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        reply.respond(200, [], b"waited")

    def ended(self, request: Request, reply: Reply) -> None:
        self.ended_with.append(499 if reply.gone else reply.status)


@dataclass
class Client:
    """A raw socket to the server, and the server's insides."""

    app: Echo
    server: Server
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def read_until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), 2)

    async def read_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 2)


@asynccontextmanager
async def connected(limits: Limits = LIMITS) -> AsyncIterator[Client]:
    app = Echo()
    server = Server(app, limits)
    port = await server.listen(bind("127.0.0.1", 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(app, server, reader, writer)
    finally:
        writer.close()
        await server.close()


class Wire:
    """A transport in memory."""

    def __init__(self) -> None:
        self.text = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.text += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


CLOSE = "Connection: close"


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"GET {path} HTTP/{version}", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
