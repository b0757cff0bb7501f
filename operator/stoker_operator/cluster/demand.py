"""Streams of demand: one connection to every gateway worker, reopened whenever it breaks.

Knows gateway pods, ports and the NDJSON lines; does not know what demand leads to. A standby
listens as well, so that a takeover starts with everything known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from stoker_api import names
from stoker_api.demand import Announcement, Demand, parse_line
from stoker_operator.cluster.client import KubeCluster
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.ledger import DemandLedger, Worker
from stoker_operator.errors import ClusterError
from stoker_operator.metrics import GATEWAY_WORKERS

logger = logging.getLogger(__name__)

SILENCE_S = 12.0
"""Gateways say something every 5 s; after this the stream is taken for dead."""
INTRODUCTION_S = 0.2
"""A stream that pauses this long after it opened has told all it knew."""
LONGEST_LINE_BYTES = 2**20
MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0


@dataclass(frozen=True, slots=True)
class DemandListener:
    """Whom to tell."""

    on_demand: Callable[[str], None]
    """The demand of this deployment has changed."""
    on_announce: Callable[[Announcement], None]
    on_gateways: Callable[[], None]
    """A gateway came or went, which may concern every deployment."""


class DemandStreams:
    """All streams of this process."""

    def __init__(
        self, ledger: DemandLedger, listener: DemandListener, token: str | None, selector: str
    ) -> None:
        self._ledger = ledger
        self._listener = listener
        self._selector = selector
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tasks: dict[Worker, asyncio.Task[None]] = {}

    async def run(self, cluster: KubeCluster, namespace: str) -> None:
        """Follow the gateway pods for ever."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(
            timeout=timeout, headers=self._headers, read_bufsize=LONGEST_LINE_BYTES
        ) as session:
            try:
                while True:
                    await self._follow_pods(cluster, namespace, session)
            finally:
                for task in self._tasks.values():
                    task.cancel()

    async def _follow_pods(
        self, cluster: KubeCluster, namespace: str, session: aiohttp.ClientSession
    ) -> None:
        pods: dict[str, Manifest] = {}
        query = (("labelSelector", self._selector),)
        try:
            async with aclosing(cluster.watch("Pod", namespace, query)) as events:
                async for event, document in events:
                    if event == "LISTED":
                        pods = {pod["metadata"]["name"]: pod for pod in document["items"]}
                    elif event == "DELETED":
                        pods.pop(document["metadata"]["name"], None)
                    else:
                        pods[document["metadata"]["name"]] = document
                    self._adjust(pods, session)
        except ClusterError as error:
            logger.warning("gateways cannot be listed: %s", error)
            await asyncio.sleep(MAX_BACKOFF_S)

    def _adjust(self, pods: dict[str, Manifest], session: aiohttp.ClientSession) -> None:
        """One stream per worker that is there."""
        workers = {worker for pod in pods.values() for worker in workers_of(pod)}
        self._ledger.expect(workers, time.time())
        for worker in self._tasks.keys() - workers:
            self._tasks.pop(worker).cancel()
        for worker in workers - self._tasks.keys():
            self._tasks[worker] = asyncio.create_task(self._listen(worker, session))
            self._listener.on_gateways()

    async def _listen(self, worker: Worker, session: aiohttp.ClientSession) -> None:
        backoff_s = MIN_BACKOFF_S
        while True:
            try:
                await self._read_stream(worker, session)
                backoff_s = MIN_BACKOFF_S
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                logger.debug("gateway %s: %r", worker, error)
            except ValueError as error:  # a line longer than the buffer
                logger.warning("gateway %s: %r", worker, error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    async def _read_stream(self, worker: Worker, session: aiohttp.ClientSession) -> None:
        host, port = worker
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{names.DEMAND_PATH}"
        async with session.get(url) as response:
            if response.status != 200:
                logger.warning("gateway %s answers %s", url, response.status)
                return
            self._ledger.connect(worker, time.time())
            GATEWAY_WORKERS.set(self._ledger.num_connected)
            timer = asyncio.get_running_loop().call_later(INTRODUCTION_S, self._introduce, worker)
            try:
                async for line in response.content:
                    self._take(worker, line)
            finally:
                timer.cancel()
                self._ledger.disconnect(worker, time.time())
                GATEWAY_WORKERS.set(self._ledger.num_connected)
                self._listener.on_gateways()

    def _introduce(self, worker: Worker) -> None:
        self._ledger.introduce(worker)
        self._listener.on_gateways()

    def _take(self, worker: Worker, line: bytes) -> None:
        try:
            document = parse_line(line)
        except ValidationError as error:
            logger.warning("gateway %s sent what is not demand: %s", worker, error)
            return
        if isinstance(document, Demand):
            self._ledger.record(worker, document, time.time())
            self._listener.on_demand(document.deployment)
        elif isinstance(document, Announcement):
            self._listener.on_announce(document)


def workers_of(pod: Manifest) -> set[Worker]:
    """The worker processes of a gateway pod that runs; one that drains still has requests."""
    status, annotations = pod.get("status", {}), pod["metadata"].get("annotations", {})
    if status.get("phase") != "Running" or not status.get("podIP"):
        return set()
    ports = annotations.get(names.ANNOTATION_INTERNAL_PORTS, str(names.INTERNAL_PORT))
    return {(status["podIP"], int(port)) for port in ports.split(",") if port.strip().isdigit()}
