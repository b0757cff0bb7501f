"""A gateway worker in the test's own event loop, on free ports, over a fake cluster.

Knows how to start it, announce pods and read its demand; each test says what it does with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from stoker_gateway.settings import Settings
from stoker_gateway.worker import Worker, bind_sockets
from support.fake_runtime import FakeRuntime
from support.fake_watch import FakeCluster, make_deployment, make_pod


class Gateway:
    """One running worker and a client's view of it."""

    def __init__(self, settings: Settings, cluster: FakeCluster) -> None:
        self.settings = settings
        self.cluster = cluster
        self.worker = Worker(settings, 0, cluster)
        self.url = ""
        self.internal_url = ""
        self.session: aiohttp.ClientSession

    async def start(self) -> None:
        """Listen, and list the cluster."""
        sockets = bind_sockets(self.settings, 0)
        await self.worker.start(sockets)
        self.port = sockets.public.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.internal_url = f"http://127.0.0.1:{sockets.internal.getsockname()[1]}"
        self.session = aiohttp.ClientSession()
        await until(lambda: self.worker.backends.synced)

    async def close(self) -> None:
        """End everything."""
        await self.session.close()
        await self.worker.close()

    async def announce(self, pod: str, phase: str, address: str = "", **parts: Any) -> int:
        """Speak for a runtime pod of `default/chat`; the status of the answer."""
        said = {"namespace": "default", "deployment": "chat", "pod": pod, "phase": phase}
        said |= {"address": address or "127.0.0.1:1"} | parts
        headers = parts.pop("headers", {})
        url = f"{self.internal_url}/internal/announce"
        async with self.session.post(url, json=said, headers=headers) as answer:
            return answer.status

    async def add(self, runtime: FakeRuntime, pod: str = "chat-1") -> None:
        """Let a runtime pod exist and say that it is ready."""
        await self.cluster.put("pods", make_pod(pod))
        await self.announce(pod, "Ready", runtime.address, slots=runtime.slots)

    def ask(self, body: dict[str, Any] | None = None, path: str = "/v1/chat/completions") -> Any:
        """A request to the default model."""
        return self.session.post(self.url + path, json={"model": "chat"} | (body or {}))

    async def demand(self) -> AsyncIterator[dict[str, Any]]:
        """The lines of a demand stream, pings excepted."""
        async with self.session.get(f"{self.internal_url}/internal/demand") as answer:
            async for line in answer.content:
                document = json.loads(line)
                if document["kind"] != "ping":
                    yield document


async def until(condition: Any, timeout_s: float = 20) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running_gateway(deploy: bool = True, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway with the deployment `default/chat`, at zero."""
    defaults = {"port": 0, "internal_port": 0, "workers": 1, "drain_accept_s": 0.05}
    cluster = FakeCluster()
    if deploy:
        await cluster.put("deployments", make_deployment())
    gateway = Gateway(Settings(**({"host": "127.0.0.1"} | defaults | settings)), cluster)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()
