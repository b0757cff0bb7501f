"""A stand for the real operator process: a small gateway that reports demand, and its metrics.

Knows how to start `python -m stoker_operator` against an API server, and speaks NDJSON on a real
socket as a gateway worker does. Used by the tests against a bare API server, which has no kubelet:
pods are only objects there, and tests play the runtime by announcing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
"""What the models of these stories lie on."""


class GatewayWorker:
    """One gateway worker: `say` sends a line to every operator that listens."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.listeners: set[web.StreamResponse] = set()
        self.tokens: list[str | None] = []
        self.port = 0
        self.refusing = False

    async def say(self, line: dict[str, Any]) -> None:
        """Send a line; demand is remembered for who connects later."""
        if line["kind"] == "demand":
            self.known[line["deployment"]] = line
        for listener in list(self.listeners):
            with suppress(ConnectionResetError):
                await listener.write(json.dumps(line).encode() + b"\n")

    async def demand(self, key: str, queued: int, running: int = 0, **more: Any) -> None:
        """Say what is wanted of one deployment."""
        idle = {"idle_s": 0.0, "arrivals": 1, "oldest_wait_s": 0.0, "pods": {}}
        line = {"kind": "demand", "deployment": key, "queued": queued, "running": running}
        await self.say(line | idle | more)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization"))
        if self.refusing:
            return web.Response(status=401)
        response = web.StreamResponse()
        await response.prepare(request)
        self.listeners.add(response)
        for line in self.known.values():
            await response.write(json.dumps(line).encode() + b"\n")
        with suppress(ConnectionResetError):
            while True:
                await response.write(b'{"kind":"ping"}\n')
                await asyncio.sleep(1)
        self.listeners.discard(response)
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[GatewayWorker]:
        """Listen on a free port of loopback."""
        application = web.Application()
        application.router.add_get("/internal/demand", self._stream)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


class OperatorProcess:
    """One `python -m stoker_operator`."""

    def __init__(self, name: str, kubeconfig: Path, log: Path, key: Path, **more: str) -> None:
        self.log = log
        self.health_port, self.metrics_port = _free_ports()
        self._env = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "STOKER_NAMESPACE": "stoker",
            "STOKER_POD_NAME": name,
            "STOKER_INTERNAL_KEY_FILE": str(key),
            "STOKER_HEALTH_PORT": str(self.health_port),
            "STOKER_METRICS_PORT": str(self.metrics_port),
            "STOKER_RUNTIME_IMAGE_CPU": "runtime:test",
            "STOKER_DRAIN_DEADLINE_S": "30",
            **more,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> OperatorProcess:
        """Start it and wait until it has seen the cluster."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "stoker_operator", env=self._env, stdout=log, stderr=log
            )
        await eventually(self._is_ready, f"{self.log.read_text()[-2000:]}", 120)
        return self

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, "start it first"
        return self._process.pid

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        assert self._process is not None, "start it first"
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), 20)

    async def metric(self, name: str) -> dict[str, float]:
        """Samples of one metric, by their labels as text."""
        text = await _get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        samples = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in samples}

    async def num_writes(self) -> float:
        """Writes so far, renewals of the Lease excepted."""
        samples = await self.metric("stoker_operator_writes_total")
        return sum(value for labels, value in samples.items() if 'kind="Lease"' not in labels)

    async def leads(self) -> bool:
        """Whether this process acts."""
        return (await self.metric("stoker_operator_leader")).get("", 0.0) == 1

    async def _is_ready(self) -> bool:
        assert self._process is not None, "start it first"
        assert self._process.returncode is None, self.log.read_text()[-4000:]
        try:
            await _get(f"http://127.0.0.1:{self.health_port}/readyz")
        except aiohttp.ClientError:
            return False
        return True


async def eventually(check: Any, what: str = "", timeout_s: float = 10) -> Any:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = await check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


async def _get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        response.raise_for_status()
        return await response.text()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]
