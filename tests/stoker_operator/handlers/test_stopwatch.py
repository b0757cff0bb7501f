"""Wakes are timed once, with what the kubelet says of the image."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_operator.errors import ClusterError
from support.operator_world import OperatorWorld, make_claim, make_deployment

PULLED = 'Successfully pulled image "cpu:1" in 0.2s (0.3s including waiting). Image size: 9 bytes.'


@pytest.fixture
async def world() -> OperatorWorld:
    """A deployment whose first pod has a node."""
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    world.demand(queued=1)
    await world.settle()
    world.place_pods()
    return world


async def wake(world: OperatorWorld) -> dict[str, Any]:
    """The pod is ready; the phases of its start."""
    world.announce(world.pods[0])
    await world.settle()
    cold_start = world.status.last_cold_start
    assert cold_start is not None
    assert cold_start.total == pytest.approx(2.0)
    return cold_start.phases.model_dump(exclude_none=True)


def say(world: OperatorWorld, message: str, reason: str = "Pulled") -> None:
    """The kubelet's Event about the pod."""
    about = {"uid": world.pods[0]["metadata"]["uid"]}
    metadata = {"name": f"e-{reason}", "namespace": "ns"}
    event = {"kind": "Event", "metadata": metadata, "involvedObject": about}
    world.cluster.put(event | {"reason": reason, "message": message})


async def test_the_time_of_a_pull_is_told_apart_from_the_containers(world: OperatorWorld) -> None:
    say(world, PULLED)
    say(world, "Created container: runtime", "Created")
    phases = await wake(world)
    assert phases["image"] == pytest.approx(0.3)
    assert phases["scheduled"] + phases["image"] + phases["container"] == pytest.approx(0.5)


@pytest.mark.parametrize("told", [True, False])
async def test_an_image_that_was_there_took_no_time(world: OperatorWorld, told: bool) -> None:
    if told:
        say(world, 'Container image "cpu:1" already present on machine')
    assert (await wake(world))["image"] == 0


async def test_a_wake_is_timed_all_the_same_when_nobody_tells_of_the_image(
    world: OperatorWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> dict[str, Any]:
        raise ClusterError("not now")

    monkeypatch.setattr(world.cluster, "list", refuse)
    assert (await wake(world))["image"] == 0


async def test_each_wake_counts_once(world: OperatorWorld) -> None:
    await wake(world)
    for _ in range(3):
        world.now += 20
        world.demand(running=1)
        await world.settle()
    assert world.status.cold_starts is not None
    assert [record.count for record in world.status.cold_starts] == [1]
