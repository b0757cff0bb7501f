"""Events as the API server wants them, and when anything is written at all."""

from __future__ import annotations

from stoker_operator.decide.event import Note
from stoker_operator.decide.quiet import Quiet
from stoker_operator.errors import ClusterError, NotFound
from stoker_operator.handlers.report import build_event
from support.operator_world import OperatorWorld, make_claim, make_deployment
from support.pool_world import PoolWorld, make_pool, make_warm

METADATA = {"name": "chat", "namespace": "ns", "uid": "u"}


def test_an_event_names_its_deployment_and_fits() -> None:
    event = build_event(METADATA, Note("Warning", "CheckpointBroken", "x" * 5000), 1795255200.0)
    assert event["involvedObject"]["uid"] == "u"
    assert event["firstTimestamp"] == "2026-11-21T10:00:00Z"
    assert len(event["message"]) == 1024
    assert event["type"] == "Warning"


def test_two_events_of_one_instant_have_two_names() -> None:
    note = Note("Normal", "Serving", "")
    names = {build_event(METADATA, note, 1.0)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3


async def test_events_that_cannot_be_written_stop_nothing() -> None:
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    world.cluster.refuse["Event"] = ClusterError("no")
    world.demand(queued=1)
    await world.settle()
    assert len(world.live) == 1
    assert world.condition("Ready")[1] == "Waking"


async def test_a_deployment_that_is_gone_by_now_is_no_error() -> None:
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    world.cluster.show(world.snapshot, world.now)
    world.cluster.refuse["LLMDeployment"] = NotFound("gone")
    assert await world.reconciler.reconcile("ns/chat") is None


async def test_a_wake_is_not_disturbed_by_what_nobody_waits_for() -> None:
    world = PoolWorld(quiet=Quiet()).add(make_pool(), make_warm())
    world.now += 5
    await world.fill()
    before = len(world.cluster.writes)
    world.demand(queued=1)
    look_at = await world.settle()
    assert [write[:2] for write in world.cluster.writes[before:]] == [("change", "Pod")]
    assert look_at is not None
    assert look_at <= world.now + 1.0
    [pod] = world.of_deployment()
    world.announce(pod, phases={"container": world.now, "firstToken": world.now + 0.1})
    world.now += 0.2
    world.demand(running=1, chat=1)
    await world.settle()
    assert len(world.cluster.writes) == before + 1
    world.now += 2.0
    await world.settle()
    assert len(world.standbys) == 1  # the pool refills once the first answers are out
    assert world.pool_status.adopted == 1
    assert world.events[-2:] == ["DemandAtZero", "Serving"]
    assert world.status.scaling is not None
    change = world.status.scaling.changes[-1]
    assert (change.from_replicas, change.to_replicas, change.reason) == (0, 1, "DemandAtZero")
    assert world.status.last_cold_start is not None


async def test_wakes_without_end_are_told_of_all_the_same() -> None:
    world = PoolWorld(quiet=Quiet()).add(make_pool(), make_warm())
    world.now += 5
    await world.fill()
    world.demand(queued=1)
    await world.settle()
    [pod] = world.of_deployment()
    before = len(world.cluster.writes)
    for _ in range(10):
        world.now += 0.4
        world.announce(pod, phases={"container": world.now - 0.1, "firstToken": world.now})
        await world.settle()
    told = {write[1] for write in world.cluster.writes[before:]}
    assert told == {"Pod", "LLMDeployment", "WarmPool", "Event", "Secret"}
    assert len(world.standbys) == 1
