"""Events as the API server wants them."""

from __future__ import annotations

from stoker_operator.decide.event import Note
from stoker_operator.errors import ClusterError, NotFound
from stoker_operator.handlers.report import build_event
from support.operator_world import OperatorWorld, make_claim, make_deployment

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
