"""One worker: a whole gateway in one event loop, from listening to the last answer.

Knows how the parts are put together and in which order they end; `__main__` starts several.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from dataclasses import dataclass

from stoker_api import names
from stoker_gateway import errors
from stoker_gateway.app import InternalApp, PublicApp
from stoker_gateway.backends import Backends, ProbeTimes
from stoker_gateway.demand import DemandPublisher
from stoker_gateway.fanout import Fanout
from stoker_gateway.fleet import Fleet
from stoker_gateway.http.server import Limits, Server, bind
from stoker_gateway.http.upstream import Pools
from stoker_gateway.keys import InternalKey, KeyFolder
from stoker_gateway.lane import Bounds, Lane
from stoker_gateway.metrics import Metrics
from stoker_gateway.proxy import Proxy
from stoker_gateway.settings import Settings
from stoker_gateway.watch import Cluster

log = logging.getLogger(__name__)

FLUSH_S = 0.05


@dataclass(frozen=True, slots=True)
class Sockets:
    """The bound sockets of one worker."""

    public: socket.socket
    internal: socket.socket


def bind_sockets(settings: Settings, index: int) -> Sockets:
    """The public port, shared by all workers, and the internal one of this worker."""
    internal = settings.internal_port + index if settings.internal_port else 0
    return Sockets(bind(settings.host, settings.port), bind(settings.host, internal))


class Worker:
    """All parts of one gateway process."""

    def __init__(self, settings: Settings, index: int, cluster: Cluster) -> None:
        self.settings = settings
        self._cluster = cluster
        self._tasks: list[asyncio.Task[None]] = []
        self._key = InternalKey(settings.internal_key_file)
        self.fleet = Fleet(Bounds(settings.max_queued, settings.max_queued_bytes))
        self.pools = Pools(settings.connect_timeout_s)
        self.demand = DemandPublisher(lambda: self.fleet)
        self.metrics = Metrics(lambda: self.fleet)
        self.proxy = Proxy(self.pools, self.demand, self.metrics, settings.heartbeat_after_s)
        self.backends = Backends(
            self.fleet, self.pools, self.demand, self.metrics, _probe_times(settings)
        )
        siblings = [port for i, port in enumerate(settings.internal_ports) if i != index]
        self.fanout = Fanout(siblings)
        self._wire()
        self._make_servers()

    def _wire(self) -> None:
        self.backends.pump = self.proxy.pump
        self.backends.on_forget = self.proxy.forget
        self.proxy.on_trouble = self.backends.on_trouble
        self.proxy.authorization_of = self._authorization_of

    def _make_servers(self) -> None:
        limits = _limits(self.settings)
        keys = KeyFolder(self.settings.api_keys_dir)
        public = PublicApp(self.fleet, self.proxy, self.metrics, keys, self.settings)
        internal = InternalApp(self.backends, self.demand, self.metrics, self.fanout, self._key)
        public.is_ready = internal.is_ready = self._is_ready
        self.public = Server(public, limits)
        self.internal = Server(internal, limits)

    def _authorization_of(self, lane: Lane) -> bytes:
        target = lane.target
        token = self._key.token(names.runtime_purpose(target.namespace, target.name))
        return f"\r\nauthorization: Bearer {token}".encode() if token else b""

    def _is_ready(self) -> bool:
        return self.backends.synced and not self.public.draining

    async def start(self, sockets: Sockets) -> None:
        """Listen, and follow the cluster."""
        await self.internal.listen(sockets.internal)
        await self.public.listen(sockets.public)
        create = asyncio.get_running_loop().create_task
        follow = self.backends.run(self._cluster, self.settings.namespace_list)
        self._tasks = [create(follow), create(self.fanout.run())]

    async def run(self, sockets: Sockets, stop: asyncio.Event) -> None:
        """Serve until `stop`, then drain. Raises what ends the watch or the fan-out by mistake."""
        await self.start(sockets)
        stopped = asyncio.get_running_loop().create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
        await self.drain()
        await self.close()

    async def drain(self) -> None:
        """Not ready any more, but answering: new ones for a short while, held ones to their end."""
        ends_at = time.monotonic() + self.settings.drain_deadline_s
        self.public.draining = True
        log.info("draining: %d requests", self.public.num_running)
        await asyncio.sleep(min(self.settings.drain_accept_s, self.settings.drain_deadline_s))
        self.public.close_listener()
        if not await self.public.wait_empty(max(ends_at - time.monotonic(), 0.01)):
            log.warning("drain deadline: %d requests end unanswered", self.public.num_running)
            self.public.end_all(errors.shutting_down())
        await self.public.wait_sent(ends_at - time.monotonic())
        await asyncio.sleep(FLUSH_S)

    async def close(self) -> None:
        """End everything."""
        self.backends.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.public.close()
        await self.internal.close()
        self.pools.close()


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.max_body_bytes,
        settings.max_buffered_bytes,
        settings.client_timeout_s,
        settings.keep_alive_s,
    )


def _probe_times(settings: Settings) -> ProbeTimes:
    return ProbeTimes(settings.probe_min_s, settings.probe_max_s, settings.connect_timeout_s)
