"""`python -m stoker_gateway`: reads the settings and supervises the worker processes.

Knows processes and signals; `worker` knows everything else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import uvloop
from pydantic import ValidationError

from stoker_api.environ import PREFIX, read_settings
from stoker_gateway.logs import set_up_logging
from stoker_gateway.pulse import PULSE_S
from stoker_gateway.settings import Settings
from stoker_gateway.supervisor import SIGNALS, Supervisor
from stoker_gateway.watch import Cluster, KubernetesCluster
from stoker_gateway.worker import Worker, bind_sockets

Beat = Callable[[], None]


async def serve(
    settings: Settings, index: int, parent_gone: int, beat: Beat, cluster: Cluster
) -> None:
    """One worker, until SIGTERM or the end of its parent."""
    loop = asyncio.get_running_loop()
    _beat_on(loop, beat)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    loop.add_reader(parent_gone, _on_parent_gone, loop, parent_gone, stop)
    worker = Worker(settings, index, cluster)
    await worker.run(bind_sockets(settings, index), stop)


async def _serve_kubernetes(settings: Settings, index: int, parent_gone: int, beat: Beat) -> None:
    cluster = KubernetesCluster()
    try:
        await serve(settings, index, parent_gone, beat, cluster)
    finally:
        await cluster.close()


def _beat_on(loop: asyncio.AbstractEventLoop, beat: Beat) -> None:
    beat()
    loop.call_later(PULSE_S, _beat_on, loop, beat)


def _on_parent_gone(loop: asyncio.AbstractEventLoop, pipe: int, stop: asyncio.Event) -> None:
    loop.remove_reader(pipe)
    stop.set()


def main() -> int:
    """Run until SIGTERM; 0 when every request had its answer."""
    try:
        settings = read_settings(Settings, os.environ)
    except ValidationError as error:
        for problem in error.errors():
            name = PREFIX + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"{name}: {problem['msg']}, was {problem['input']!r}", file=sys.stderr)
        return 2
    set_up_logging(settings)

    def run_worker(index: int, parent_gone: int, beat: Beat) -> None:
        uvloop.run(_serve_kubernetes(settings, index, parent_gone, beat))

    return Supervisor(settings.workers, run_worker, settings.worker_hung_s).run()


if __name__ == "__main__":
    sys.exit(main())
