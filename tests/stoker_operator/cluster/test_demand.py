"""Streams of demand from real sockets: found by their pods, reopened when they break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stoker_api.demand import Announcement
from stoker_operator.cluster.demand import DemandListener, DemandStreams, workers_of
from stoker_operator.cluster.ledger import DemandLedger
from support.api_server import ApiServer
from support.operator_stand import GatewayWorker

SELECTOR = "app.kubernetes.io/component=gateway"


def _gateway_pod(*ports: int, name: str = "gateway-0", phase: str = "Running") -> dict[str, Any]:
    marks = {"stoker.dev/internal-ports": ",".join(str(port) for port in ports)}
    metadata = {"namespace": "stoker", "name": name, "annotations": marks}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "podIP": "127.0.0.1"}}


class Ear:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.ledger = DemandLedger(time.time(), 10)
        self.demands: list[str] = []
        self.announced: list[Announcement] = []
        self.changes = 0

    def _note_change(self) -> None:
        self.changes += 1

    @asynccontextmanager
    async def listening(self, server: ApiServer, token: str | None = None) -> AsyncIterator[Ear]:
        """Follow the gateways of an API server."""
        listener = DemandListener(self.demands.append, self.announced.append, self._note_change)
        streams = DemandStreams(self.ledger, listener, token, SELECTOR)
        async with server.client() as cluster:
            task = asyncio.create_task(streams.run(cluster, "stoker"))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.wait([task])


async def _until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not check():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A small API server."""
    async with ApiServer().serving() as server:
        yield server


def _show(server: ApiServer, pod: dict[str, Any], event: str = "") -> None:
    server.put(f"/api/v1/namespaces/stoker/pods/{pod['metadata']['name']}", pod, event)


async def test_hears_every_worker_of_every_gateway_pod(server: ApiServer) -> None:
    async with GatewayWorker().serving() as one, GatewayWorker().serving() as two:
        _show(server, _gateway_pod(one.port, two.port))
        async with Ear().listening(server, token="t") as ear:
            await _until(lambda: one.listeners and two.listeners)
            await one.demand("ns/chat", queued=2)
            await two.demand("ns/chat", queued=1, running=4)
            await _until(lambda: ear.ledger.total("ns/chat", time.time()).queued == 3)
            assert set(ear.demands) == {"ns/chat"}
            await _until(lambda: ear.ledger.total("ns/chat", time.time()).known)
            assert one.tokens == ["Bearer t"]
            assert server.requests[0][2]["labelSelector"] == SELECTOR


async def test_passes_announcements_on_and_survives_nonsense(server: ApiServer) -> None:
    async with GatewayWorker().serving() as worker:
        _show(server, _gateway_pod(worker.port))
        async with Ear().listening(server) as ear:
            await _until(lambda: worker.listeners)
            await worker.say({"kind": "surprise"})
            fields = {"namespace": "ns", "deployment": "chat", "pod": "p", "address": "a:1"}
            await worker.say({"kind": "announce", "phase": "Ready"} | fields)
            await _until(lambda: ear.announced)
            assert ear.announced[0].pod == "p"
            assert worker.tokens == [None]


async def test_a_broken_stream_is_reopened_and_its_demand_leased(server: ApiServer) -> None:
    async with GatewayWorker().serving() as worker:
        _show(server, _gateway_pod(worker.port))
        async with Ear().listening(server) as ear:
            await _until(lambda: worker.listeners)
            await worker.demand("ns/chat", queued=2)
            await _until(lambda: ear.demands)
            for listener in list(worker.listeners):
                assert listener._req is not None, "it was prepared"
                listener._req.transport.close()  # type: ignore[union-attr]
            worker.listeners.clear()
            assert ear.ledger.total("ns/chat", time.time()).queued == 2
            await _until(lambda: worker.listeners)
            assert len(worker.tokens) == 2


async def test_gateways_come_and_go_with_their_pods(server: ApiServer) -> None:
    async with GatewayWorker().serving() as worker, Ear().listening(server) as ear:
        await _until(lambda: server.requests)
        await asyncio.sleep(0.05)
        _show(server, _gateway_pod(worker.port, phase="Pending"))
        await asyncio.sleep(0.05)
        assert not worker.listeners
        _show(server, _gateway_pod(worker.port))
        await _until(lambda: ear.ledger.num_connected == 1)
        _show(server, _gateway_pod(worker.port), "DELETED")
        await _until(lambda: ear.ledger.num_connected == 0)
        assert ear.changes >= 2


async def test_a_gateway_that_refuses_is_asked_again(server: ApiServer) -> None:
    async with GatewayWorker().serving() as worker:
        worker.refusing = True
        _show(server, _gateway_pod(worker.port))
        async with Ear().listening(server) as ear:
            await _until(lambda: len(worker.tokens) >= 2)
            assert ear.ledger.num_connected == 0
            worker.refusing = False
            await _until(lambda: ear.ledger.num_connected == 1)


async def test_an_api_server_that_fails_is_asked_again(server: ApiServer) -> None:
    server.answers.append((500, "{}"))
    async with GatewayWorker().serving() as worker:
        _show(server, _gateway_pod(worker.port))
        async with Ear().listening(server):
            await _until(lambda: worker.listeners)


def test_workers_of_a_pod_are_its_ports() -> None:
    assert workers_of(_gateway_pod(8090, 8091)) == {("127.0.0.1", 8090), ("127.0.0.1", 8091)}
    plain = {"metadata": {}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    assert workers_of(plain) == {("10.0.0.1", 8090)}
    assert workers_of({"metadata": {}, "status": {"phase": "Running"}}) == set()
    assert workers_of(_gateway_pod(8090, phase="Failed")) == set()
