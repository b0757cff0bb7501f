"""`python -m support.gateway_process`: a whole gateway (parent and workers) over a fake API server.

For tests of signals and processes, and for the benchmark. Serves the deployment `default/chat`,
whose pod `chat-1` exists and is heard of when it announces itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

import aiohttp
import uvloop

from stoker_api.environ import read_settings
from stoker_gateway.__main__ import serve
from stoker_gateway.logs import set_up_logging
from stoker_gateway.settings import Settings
from stoker_gateway.supervisor import Supervisor
from support.fake_watch import FakeCluster, make_deployment, make_pod


async def run_worker(
    settings: Settings, index: int, parent_gone: int, beat: Callable[[], None]
) -> None:
    """One worker with a cluster of its own, as every real worker has."""
    cluster = FakeCluster()
    await cluster.put("deployments", make_deployment())
    await cluster.put("pods", make_pod("chat-1"))
    await serve(settings, index, parent_gone, beat, cluster)


def supervise(settings: Settings) -> int:
    """Run until SIGTERM; the exit code."""
    set_up_logging(settings)

    def run(index: int, parent_gone: int, beat: Callable[[], None]) -> None:
        uvloop.run(run_worker(settings, index, parent_gone, beat))

    return Supervisor(settings.workers, run, settings.worker_hung_s).run()


def free_ports(num: int) -> int:
    """The first of `num` neighbouring ports on which nobody listens."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = 0
            for index in range(num):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", first + index if first else 0))
                first = first or sock.getsockname()[1]
            return first


class GatewayProcess:
    """A running gateway and the addresses of its ports."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, internal: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.internal = [f"http://127.0.0.1:{internal + index}" for index in range(2)]

    async def started(self) -> None:
        """Wait until both workers are ready."""
        async with aiohttp.ClientSession() as session:
            for url in self.internal:
                await _ready(session, url)


async def _ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def gateway_process(
    log: IO[bytes] | None = None, **settings: object
) -> AsyncIterator[GatewayProcess]:
    """A gateway of two workers in processes of its own, which logs here or into a file."""
    port, internal = free_ports(1), free_ports(2)
    values = {"host": "127.0.0.1", "port": port, "internal_port": internal, "workers": 2}
    environ = {f"STOKER_{key.upper()}": str(value) for key, value in (values | settings).items()}
    environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.gateway_process", env=os.environ | environ, stderr=log
    )
    gateway = GatewayProcess(process, port, internal)
    try:
        await gateway.started()
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    sys.exit(supervise(read_settings(Settings, os.environ)))
