"""The API process's life: wire the parts together, serve, drain, end.

Knows every part of the server and the order in which they start and stop; does not know any
route. Called once by `__main__`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from stoker_runtime.config import Config
from stoker_runtime.errors import StokerRuntimeError
from stoker_runtime.logs import configure_logging
from stoker_runtime.server.admin import Admin
from stoker_runtime.server.announce import Announcer, read_target
from stoker_runtime.server.app import App, admin_routes, public_routes
from stoker_runtime.server.connection import HttpServer, Limits
from stoker_runtime.server.engine_client import EngineClient
from stoker_runtime.server.lifecycle import Lifecycle, Patience
from stoker_runtime.server.metrics import Metrics, process_start
from stoker_runtime.server.service import Service
from stoker_runtime.server.shelf import Shelf
from stoker_runtime.server.switch import Switch
from stoker_runtime.server.texts import load_texts
from stoker_runtime.spawn import EngineProcess
from stoker_runtime.wire import Failed

log = logging.getLogger(__name__)

BACKLOG = 2048
_TERMINATION_LOG = Path("/dev/termination-log")
_LAST_ANNOUNCEMENT_S = 0.5
_ENGINE_END_S = 1.0
_LAST_BYTES_S = 2.0
_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Start:
    """What is there before the event loop runs."""

    config: Config
    public: socket.socket
    admin: socket.socket
    engine: EngineProcess


def run(start: Start) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    configure_logging(start.config.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Server(start).run())


class _Server:
    """One run."""

    def __init__(self, start: Start) -> None:
        self._config = start.config
        self._start = start
        log_file = _TERMINATION_LOG if _TERMINATION_LOG.exists() else None
        patience = Patience(self._config.max_silence_s, self._config.max_step_s)
        self._lifecycle = Lifecycle(process_start(), start.engine.describe_exit, log_file, patience)
        self._lifecycle.lost = self._on_lost
        self._stop = asyncio.Event()
        self._hurry = False
        self._code = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Start all parts, wait for the signal or the engine's end, drain, end."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._on_signal, signum)
        metrics = Metrics(self._config.model_name)
        engine = EngineClient(self._lifecycle, metrics)
        service = Service(self._config, self._lifecycle, engine, metrics)
        announcer = self._start_announcing()
        shelf = Shelf(self._config.preload_folders)
        routes = admin_routes(Admin(Switch(service, announcer, shelf)))
        key = self._config.token or self._config.api_key
        servers = [
            await self._listen(App(service, public_routes()), self._start.public),
            await self._listen(App(service, routes, key=key), self._start.admin),
        ]
        await engine.connect(self._start.engine.sock)
        if self._config.is_standby:
            self._tasks.append(loop.create_task(asyncio.to_thread(shelf.fill)))
        else:
            self._tasks.append(loop.create_task(self._load_texts(service)))
        await self._stop.wait()
        await self._drain(engine, servers)
        if announcer:
            await announcer.wait_heard(_LAST_ANNOUNCEMENT_S)
        await self._end(engine, servers)
        return self._code

    async def _listen(self, app: App, sock: socket.socket) -> HttpServer:
        server = HttpServer(app, Limits(body_bytes=self._config.max_body_bytes))
        await asyncio.get_running_loop().create_server(server, sock=sock, backlog=BACKLOG)
        log.info("listening on port %s", sock.getsockname()[1])
        return server

    def _start_announcing(self) -> Announcer | None:
        if not self._config.announce_url:
            return None
        announcer = Announcer(read_target(self._config), self._lifecycle)
        self._lifecycle.changed = announcer.notify
        announcer.notify()
        self._tasks.append(asyncio.get_running_loop().create_task(announcer.run()))
        return announcer

    async def _load_texts(self, service: Service) -> None:
        try:
            service.texts = await asyncio.to_thread(load_texts, self._config.model)
        except StokerRuntimeError as error:
            self._lifecycle.on_failed(Failed(error.reason, str(error)))
            service.engine.stop()  # its memory is of use to nobody
            return
        gc.collect()
        gc.freeze()  # what was imported and loaded stays, so no collection need look at it
        self._lifecycle.text_ready()

    def _on_signal(self, signum: int) -> None:
        """Drain at the first signal; a second Ctrl-C cuts what still runs."""
        self._hurry = self._stop.is_set() and signum == signal.SIGINT
        self._stop.set()

    def _on_lost(self) -> None:
        """A process without an engine is of no use: whoever started it starts it anew at once."""
        self._code = 1
        self._stop.set()

    async def _drain(self, engine: EngineClient, servers: list[HttpServer]) -> None:
        """Refuse what is new and end what runs; the code is 1 when the deadline cut something."""
        if not self._code:
            self._lifecycle.leave()
        for server in servers:
            server.closing = True
            server.close_idle()
        give_up_at = time.monotonic() + self._config.drain_deadline_s
        while engine.num_active or any(server.num_active for server in servers):
            if self._hurry or time.monotonic() >= give_up_at:
                log.error("drain deadline: %s sequences are cut", engine.num_active)
                engine.cut()
                self._code = 1
                return
            await asyncio.sleep(_TICK_S)

    async def _end(self, engine: EngineClient, servers: list[HttpServer]) -> None:
        """Stop the engine and let the last bytes leave."""
        engine.stop()
        for task in self._tasks:
            task.cancel()
        give_up_at = time.monotonic() + _LAST_BYTES_S
        while any(server.connections for server in servers) and time.monotonic() < give_up_at:
            for server in servers:
                server.close_idle()
            await asyncio.sleep(_TICK_S)
        process = self._start.engine
        seconds = _ENGINE_END_S if self._lifecycle.loaded else 0.0  # one that loads hears nothing
        if not await asyncio.to_thread(process.wait, seconds):
            process.kill()
