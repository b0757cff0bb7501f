"""Reconciling: a pod that stays silent on its node is touched, so that the kubelet looks again."""

from __future__ import annotations

import pytest

from support.operator_world import OperatorWorld, make_claim, make_deployment


@pytest.fixture
def world() -> OperatorWorld:
    """A cluster with one claim and one deployment."""
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    return world


async def test_a_pod_that_its_node_puts_aside_is_touched(world: OperatorWorld) -> None:
    """A kubelet that was refused the claim for a moment tries again at once, not in 15 s."""
    world.demand(queued=1)
    await world.settle()
    world.place_pods()
    look_at = await world.settle()
    assert look_at == pytest.approx(world.now + 1.0)
    assert world.nudges == [None]
    world.now += 1.0
    world.demand(queued=1)
    assert await world.settle() == pytest.approx(world.now + 1.5)
    assert world.nudges == ["1"]
    world.now += 60
    world.demand(queued=1)
    await world.settle()
    assert world.nudges == ["3"]


async def test_a_pod_that_shows_itself_is_never_touched(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods("Loading")
    world.now += 60
    world.demand(queued=1)
    await world.settle()
    assert world.nudges == [None]


async def test_a_container_that_runs_without_a_word_is_never_touched(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.place_pods()
    [pod] = world.pods
    running = {"containerStatuses": [{"state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}}}]}
    world.cluster.put(pod | {"status": pod["status"] | running})
    world.now += 60
    world.demand(queued=1)
    await world.settle()
    assert world.nudges == [None]
