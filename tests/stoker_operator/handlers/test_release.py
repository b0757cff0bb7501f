"""From a replica back to a standby: what stays on a pod, and when one is deleted instead."""

from __future__ import annotations

import pytest

from stoker_api import names
from stoker_api.tokens import derive_token
from support.pool_world import POOL, PoolWorld, make_pool, make_warm, owner_of


@pytest.fixture
async def world() -> PoolWorld:
    """A pool whose standby waits, and a deployment at zero that names it."""
    world = PoolWorld().add(make_pool(), make_warm())
    await world.fill()
    return world


async def test_at_scale_down_a_full_pool_wants_nothing_back(world: PoolWorld) -> None:
    await world.wake()
    await world.fill()
    assert world.pool_status.standby == 1, "it has refilled"
    world.idle(61)
    await world.settle()
    assert world.of_deployment() == []
    assert world.ports.orders("/unload") == []


async def _wake_where_nothing_else_fits(world: PoolWorld) -> None:
    """The refill waits for a node while the deployment serves."""
    world.demand(queued=1)
    await world.settle()
    [pod] = world.of_deployment()
    world.announce(pod)
    await world.settle()


async def test_at_scale_down_a_short_pool_takes_the_pod_back(world: PoolWorld) -> None:
    await _wake_where_nothing_else_fits(world)
    [served] = world.of_deployment()
    world.idle(61)
    await world.settle()
    [unload] = world.ports.orders("/unload")
    assert unload.token == derive_token(b"key", "pool/ns/shared")
    [back] = world.standbys
    assert back["metadata"]["uid"] == served["metadata"]["uid"]
    assert owner_of(back) == ("WarmPool", "shared")
    assert not set(back["metadata"]["annotations"]) & {
        names.ANNOTATION_ADDRESS,
        names.ANNOTATION_RELEASED_AT,
        names.ANNOTATION_DECIDED_AT,
    }
    assert names.LABEL_TEMPLATE not in back["metadata"]["labels"]
    assert world.status.replicas == 0
    assert world.condition("Ready")[1] == "ScaledToZero"
    await world.wake()
    assert world.of_deployment()[0]["metadata"]["uid"] == served["metadata"]["uid"]


async def test_a_pod_that_is_let_go_is_no_replica_while_it_finishes(world: PoolWorld) -> None:
    await _wake_where_nothing_else_fits(world)
    world.ports.gate.clear()
    world.idle(61)
    await world.settle()
    assert world.status.replicas == 0
    assert len(world.of_deployment()) == 1, "gateways know it until it has finished"
    world.demand(queued=1)
    await world.settle()
    assert len(world.of_deployment()) == 2, "who asks now gets a pod of his own"
    world.ports.gate.set()
    await world.settle()
    assert len(world.of_deployment()) == 1


async def test_an_operator_killed_while_a_pod_finishes_goes_on(world: PoolWorld) -> None:
    await _wake_where_nothing_else_fits(world)
    world.ports.gate.clear()
    world.idle(61)
    await world.settle()
    world.restart()
    world.ports.gate.set()
    await world.settle()
    assert world.of_deployment() == []
    assert len(world.standbys) == 1


async def test_a_pod_that_does_not_let_go_of_its_model_is_deleted(world: PoolWorld) -> None:
    await _wake_where_nothing_else_fits(world)
    [served] = world.of_deployment()
    world.ports.gone.add("10.2.0.1:8001")
    world.idle(61)
    await world.wait_for(lambda: not world.of_deployment())
    assert served["metadata"]["uid"] not in {p["metadata"]["uid"] for p in world.live_pods}


@pytest.mark.parametrize("change", ["gone", "other template", "smaller"])
async def test_a_pod_that_its_pool_does_not_want_is_deleted(world: PoolWorld, change: str) -> None:
    await _wake_where_nothing_else_fits(world)
    match change:
        case "gone":
            del world.cluster.objects["WarmPool", POOL]
        case "other template":
            world.add(make_pool(2, resources={"gpus": 0, "memory": "1Gi"}))
        case _:
            world.add(make_pool(2, size={"min": 0}))
    await world.settle()
    world.idle(61)
    await world.settle()
    assert world.of_deployment() == []
    assert world.ports.orders("/unload") == []


async def test_the_labels_of_a_deployment_come_and_go_with_it() -> None:
    pod = {"labels": {"team": "a"}, "annotations": {"note": "x"}}
    world = PoolWorld().add(make_pool(), make_warm(pod=pod))
    await world.fill()
    await _wake_where_nothing_else_fits(world)
    [served] = world.of_deployment()
    assert served["metadata"]["labels"]["team"] == "a"
    assert served["metadata"]["annotations"]["note"] == "x"
    world.idle(61)
    await world.settle()
    [back] = world.standbys
    assert "team" not in back["metadata"]["labels"]
    assert "note" not in back["metadata"].get("annotations", {})
