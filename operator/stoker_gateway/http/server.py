"""Listens, and keeps the connections of one port: tasks, limits, deadlines, draining.

Knows sockets and clocks; the app it serves knows routes. A worker has two: public and internal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import dataclass

from stoker_gateway import errors
from stoker_gateway.errors import ApiError
from stoker_gateway.http.connection import Connection
from stoker_gateway.http.reply import Reply
from stoker_gateway.http.request import App, Request

log = logging.getLogger(__name__)

SWEEP_S = 1.0
LOOK_S = 0.05
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    max_body_bytes: int
    max_buffered_bytes: int
    client_timeout_s: float
    keep_alive_s: float


class Server:
    """One listening port."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.connections: set[Connection] = set()
        self.buffered_bytes = 0
        self.draining = False
        """Answers end their connection, so that clients find another gateway."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies: set[Reply] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._id_prefix = os.urandom(6).hex()
        self._id_count = 0

    @property
    def num_running(self) -> int:
        """Requests not yet ended."""
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """Whether bodies take all the memory they may."""
        return self.buffered_bytes > self.limits.max_buffered_bytes

    def next_id(self) -> str:
        """A request id nobody else has."""
        self._id_count += 1
        return f"req-{self._id_prefix}{self._id_count:08x}"

    async def listen(self, sock: socket.socket) -> int:
        """Accept connections from a bound socket; its port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), sock=sock, backlog=BACKLOG
        )
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        port: int = sock.getsockname()[1]
        return port

    def check(self, request: Request) -> None:
        """Refuse by the head alone. Raises `ApiError`."""
        if not request.is_http_1:
            raise errors.bad_request("Not a request of HTTP/1.0 or HTTP/1.1.", "bad_http")
        announced = request.announced_bytes or 0
        if announced > self.limits.max_body_bytes:
            raise errors.too_large(self.limits.max_body_bytes)
        if self.buffered_bytes + announced > self.limits.max_buffered_bytes:
            raise errors.busy()
        self.app.check(request)

    def start_task(self, request: Request, reply: Reply) -> asyncio.Task[None]:
        """Answer a request beside the others."""
        task = asyncio.get_running_loop().create_task(self._answer(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, request: Request, reply: Reply) -> None:
        self._replies.add(reply)
        try:
            await self.app(request, reply)
            assert reply.finished, f"{request.id} was left without an answer"
        except ApiError as error:
            reply.fail(error)
        except Exception:
            log.exception("request %s failed", request.id)
            reply.fail(errors.internal())
        finally:
            self._replies.discard(reply)
            self.app.ended(request, reply)

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now = time.monotonic()
        for connection in [c for c in self.connections if c.deadline < now]:
            connection.expire()

    def close_listener(self) -> None:
        """Accept no more, and part with idle clients."""
        if self._listener:
            self._listener.close()
        for connection in list(self.connections):
            connection.close_if_idle()

    async def wait_empty(self, timeout_s: float) -> bool:
        """Whether all requests ended within the timeout."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return not self._tasks

    async def wait_sent(self, timeout_s: float) -> None:
        """Until clients have read their answers, whose requests have ended already."""
        ends_at = time.monotonic() + timeout_s
        while any(c.has_unsent for c in self.connections) and time.monotonic() < ends_at:
            await asyncio.sleep(LOOK_S)

    def end_all(self, error: ApiError) -> None:
        """Answer what still runs with an error."""
        for reply in list(self._replies):
            reply.fail(error)
        for task in list(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """End everything at once."""
        self.close_listener()
        if self._sweeper:
            self._sweeper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await self.wait_empty(1)
        for connection in list(self.connections):
            connection.abort()


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that several processes can bind at once; the kernel spreads connections."""
    family = socket.AF_INET if "." in host or not socket.has_dualstack_ipv6() else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock
