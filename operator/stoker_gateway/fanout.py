"""Passes announcements on to the other workers of this pod, in order, each until it is taken.

Knows sibling ports and retries; does not look inside. Lost ones cost a probe's pause, no request.
"""

from __future__ import annotations

import asyncio
import logging

from stoker_api import names
from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.fetch import fetch
from stoker_gateway.http.upstream import Pool

log = logging.getLogger(__name__)

FANOUT_HEADER = b"x-stoker-fanout"
"""Marks an announcement that came from a sibling: it is not passed on again."""
MAX_PENDING = 1000
PAUSES_S = (0.0, 0.05, 0.2, 1.0, 2.0)


class Fanout:
    """One queue and one courier per sibling."""

    def __init__(self, ports: list[int]) -> None:
        self._queues = {port: asyncio.Queue[tuple[bytes, bytes]](MAX_PENDING) for port in ports}

    def send(self, authorization: bytes, body: bytes) -> None:
        """Pass an announcement on, with the authorisation it came with."""
        for port, queue in self._queues.items():
            if queue.full():
                log.warning("worker at port %d is behind, an announcement is dropped", port)
            else:
                queue.put_nowait((authorization, body))

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            for port, queue in self._queues.items():
                group.create_task(_deliver(Pool(f"127.0.0.1:{port}", 1), queue))


async def _deliver(pool: Pool, queue: asyncio.Queue[tuple[bytes, bytes]]) -> None:
    while True:
        authorization, body = await queue.get()
        head = f"POST {names.ANNOUNCE_PATH}\r\n".encode()
        head += b"authorization: %b\r\n%b: 1\r\n" % (authorization, FANOUT_HEADER)
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                status, _ = await fetch(pool, head, body, 1)
            except UpstreamError:
                continue
            if status == 204:
                break
