"""Leadership: one at a time, taken over when the leader falls silent or lets go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from stoker_operator.cluster.client import KubeCluster
from stoker_operator.cluster.lease import Lease
from support.api_server import ApiServer

PATH = "/apis/coordination.k8s.io/v1/namespaces/stoker/leases/operator"
DURATION_S = 1.6


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A small API server."""
    async with ApiServer().serving() as server:
        yield server


class Candidate:
    """One process that would lead."""

    def __init__(self, server: ApiServer, name: str) -> None:
        self.lease = Lease("stoker", "operator", name, DURATION_S)
        self.led = 0
        self._server = server
        self._cluster: KubeCluster | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Candidate:
        self._context = self._server.client()
        self._cluster = await self._context.__aenter__()
        self._task = asyncio.create_task(self.lease.run(self._cluster, self._count))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.die()
        await self._context.__aexit__(None, None, None)

    def die(self) -> None:
        """Without a word, as by SIGKILL."""
        assert self._task is not None, "enter it first"
        self._task.cancel()

    async def let_go(self) -> None:
        """As by SIGTERM."""
        assert self._cluster is not None, "enter it first"
        self.die()
        await self.lease.release(self._cluster)

    def _count(self) -> None:
        self.led += 1


async def _until(check: Callable[[], bool], within_s: float) -> float:
    began = time.monotonic()
    while not check():
        assert time.monotonic() < began + within_s, "not in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_the_first_creates_the_lease_and_keeps_it(server: ApiServer) -> None:
    async with Candidate(server, "a") as a, Candidate(server, "b") as b:
        await _until(lambda: a.lease.leads or b.lease.leads, 20)
        first, other = (a, b) if a.lease.leads else (b, a)
        for _ in range(15):
            await asyncio.sleep(DURATION_S / 10)
            assert first.lease.leads
            assert not other.lease.leads
        assert (first.led, other.led) == (1, 0)
        spec = server.objects[PATH]["spec"]
        assert spec["leaseDurationSeconds"] == 2
        assert spec["leaseTransitions"] == 0


async def test_a_standby_takes_over_within_the_lease_of_a_dead_leader(server: ApiServer) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        async with Candidate(server, "b") as b:
            await asyncio.sleep(DURATION_S)
            a.die()
            assert not b.lease.leads
            await _until(lambda: b.lease.leads, 20)
            assert not a.lease.leads, "the dead one's trust in itself ended first"
            assert server.objects[PATH]["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_lets_go_is_followed_at_once(server: ApiServer) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        async with Candidate(server, "b") as b:
            await asyncio.sleep(0.1)
            await a.let_go()
            assert not a.lease.leads
            await _until(lambda: b.lease.leads, DURATION_S * 0.6)


async def test_a_process_takes_over_from_itself_at_once(server: ApiServer) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        a.die()
        async with Candidate(server, "a") as again:
            await _until(lambda: again.lease.leads, DURATION_S * 0.6)


async def test_a_leader_that_cannot_renew_stops_before_another_may_start(
    server: ApiServer,
) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        server.hang = True
        await _until(lambda: not a.lease.leads, DURATION_S)
        server.hang = False
        await _until(lambda: a.lease.leads, 2)
        assert a.led == 2


async def test_a_lease_taken_by_force_is_given_up(server: ApiServer) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        manifest = server.objects[PATH]
        server.put(PATH, manifest | {"spec": manifest["spec"] | {"holderIdentity": "x"}})
        await _until(lambda: not a.lease.leads, DURATION_S)


async def test_a_deposed_leader_waits_for_the_other_to_fall_silent(server: ApiServer) -> None:
    """Not for its own memory of it, which is as old as the process."""
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        await asyncio.sleep(DURATION_S * 1.2)
        server.put(PATH, server.objects[PATH] | {"spec": {"holderIdentity": "by force"}})
        await _until(lambda: not a.lease.leads, 2)
        assert await _until(lambda: a.lease.leads, 3) > DURATION_S / 2


async def test_a_deleted_lease_is_made_again(server: ApiServer) -> None:
    async with Candidate(server, "a") as a:
        await _until(lambda: a.lease.leads, 20)
        del server.objects[PATH]
        await _until(lambda: PATH in server.objects and a.lease.leads, 2)
