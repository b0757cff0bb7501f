"""What dashboards see while a deployment wakes, serves and sleeps."""

from __future__ import annotations

import pytest

from stoker_operator.handlers.dashboard import Dashboard
from support.operator_world import KEY, OperatorWorld, make_claim, make_deployment


class Stand:
    """A world whose dashboard is asked after every settling, as the process does."""

    def __init__(self) -> None:
        self.world = OperatorWorld()
        self.world.cluster.put(make_claim())
        self.world.cluster.put(make_deployment())
        self.leads = True
        world = self.world
        self.dashboard = Dashboard(
            world.snapshot, world.ledger, lambda: self.leads, lambda: world.now
        )

    async def settle(self) -> None:
        await self.world.settle()
        self.dashboard.look(KEY)

    def read(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of one family, by label values."""
        families = {family.name: family for family in self.dashboard.collect()}
        return {tuple(s.labels.values()): s.value for s in families[name].samples}

    def replicas(self) -> dict[str, float]:
        samples = self.read("stoker_operator_replicas")
        return {state: value for (key, state), value in samples.items() if value and key == KEY}


@pytest.fixture
def stand() -> Stand:
    return Stand()


async def test_a_life_is_seen(stand: Stand) -> None:
    world = stand.world
    await stand.settle()
    assert stand.replicas() == {}
    world.demand(queued=3)
    await stand.settle()
    assert stand.replicas() == {"desired": 1, "starting": 1}
    assert stand.read("stoker_operator_requests")[KEY, "queued"] == 3
    world.run_pods()
    await stand.settle()
    assert stand.replicas() == {"desired": 1, "ready": 1}
    world.idle(61)
    await stand.settle()
    assert stand.replicas() == {"draining": 1}
    world.finish_pods()
    await stand.settle()
    assert stand.replicas() == {}


async def test_seconds_go_to_what_a_pod_did_and_add_up_to_its_life(stand: Stand) -> None:
    world = stand.world
    world.demand(queued=1)
    await stand.settle()
    world.now += 1
    world.place_pods()
    await stand.settle()  # from its node on it is counted
    world.now += 4
    world.run_pods()
    [pod] = world.live
    world.demand(running=1, **{pod: 1})
    await stand.settle()
    world.now += 7
    world.demand(running=0)
    await stand.settle()
    world.now += 30
    spent = stand.read("stoker_replica_seconds")
    assert spent == {(KEY, "loading"): 4, (KEY, "busy"): 7, (KEY, "idle"): 30}
    assert set(stand.read("stoker_gpu_seconds").values()) == {0}


async def test_a_process_that_stands_by_shows_nothing(stand: Stand) -> None:
    stand.world.demand(queued=1)
    await stand.settle()
    stand.leads = False
    assert stand.replicas() == {}
    assert stand.read("stoker_operator_requests") == stand.read("stoker_replica_seconds") == {}


async def test_who_leads_anew_counts_from_then_on(stand: Stand) -> None:
    stand.world.demand(queued=1)
    await stand.settle()
    stand.world.run_pods()
    await stand.settle()
    stand.world.now += 3600
    stand.dashboard.reset()
    await stand.settle()
    stand.world.now += 5
    assert stand.read("stoker_replica_seconds") == {(KEY, "idle"): 5}


async def test_a_deployment_that_is_gone_leaves_no_series(stand: Stand) -> None:
    world = stand.world
    world.demand(queued=1)
    await stand.settle()
    world.run_pods()
    await stand.settle()
    world.now += 1
    assert stand.read("stoker_replica_seconds")
    world.cluster.objects.clear()
    await stand.settle()
    assert stand.read("stoker_replica_seconds") == {}


async def test_a_pool_shows_its_pods(stand: Stand) -> None:
    status = {"standby": 2, "starting": 1, "adopted": 3, "sizing": {"desired": 4}}
    pool = {"kind": "WarmPool", "metadata": {"name": "shared", "namespace": "ns"}, "spec": {}}
    stand.world.cluster.put(pool | {"status": status})
    stand.world.cluster.show(stand.world.snapshot, stand.world.now)
    assert stand.read("stoker_operator_pool_pods") == {
        ("ns/shared", "desired"): 4,
        ("ns/shared", "standby"): 2,
        ("ns/shared", "starting"): 1,
        ("ns/shared", "adopted"): 3,
    }
