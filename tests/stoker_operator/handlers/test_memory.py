"""What a restarted operator starts from."""

from __future__ import annotations

import pytest

from stoker_api.demand import Announcement
from stoker_api.status import ColdStart, LLMDeploymentStatus, ScalingStatus
from stoker_operator.decide.observed import ObservedPod
from stoker_operator.handlers.memory import recall
from support.builders import make_observed, make_old, make_ready
from support.operator_world import OperatorWorld, make_claim, make_deployment


def _status(desired: int | None) -> LLMDeploymentStatus:
    return LLMDeploymentStatus(scaling=None if desired is None else ScalingStatus(desired=desired))


NEW = [make_ready(f"n{index}") for index in range(3)]
OLD = [make_old(f"o{index}") for index in range(3)]


@pytest.mark.parametrize(
    ("pods", "desired", "replicas"),
    [
        ([], 1, 0),
        (NEW[:2], 0, 2),
        (NEW[:1], 3, 1),
        (OLD[:2], 2, 2),
        ([*NEW[:1], *OLD], 3, 3),
        ([*NEW[:2], *OLD[:2]], 3, 3),
        ([*NEW[:1], *OLD[:1]], None, 2),
    ],
    ids=["none", "written-late", "some-are-gone", "old", "begun", "midway", "no-status"],
)
def test_as_many_replicas_as_there_are_less_the_extra_one_of_a_rollout(
    pods: list[ObservedPod], desired: int | None, replicas: int
) -> None:
    assert recall("u", _status(desired), make_observed(*pods)).replicas == replicas


def test_remembers_how_long_the_last_wake_took() -> None:
    status = LLMDeploymentStatus(last_cold_start=ColdStart(total=4.0))
    assert recall("u", status, make_observed()).history.totals_s == (4.0,)
    assert recall("u", LLMDeploymentStatus(), make_observed()).history.totals_s == ()


SPEED = {"step_s": 0.01, "token_s": 1e-4, "seq_s": 3e-4, "chunk_tokens": 512}


def _say(steps: int, **speed: float) -> Announcement:
    base = {"namespace": "ns", "deployment": "chat", "pod": "p", "address": "1:2"}
    return Announcement.model_validate(
        base | {"phase": "Ready", "steps": steps, "speed": SPEED | speed}
    )


def test_each_report_of_a_pod_of_the_wanted_template_counts_once() -> None:
    observed = make_observed(NEW[0], OLD[0])
    memory = recall("u", LLMDeploymentStatus(), observed)
    said = {NEW[0].uid: _say(64), OLD[0].uid: _say(64, step_s=9.0)}
    for _ in range(3):
        memory.hear_speeds(observed, said.get)
    assert len(memory.speed.reports) == 1
    said[NEW[0].uid] = _say(128, step_s=0.02)
    memory.hear_speeds(observed, said.get)
    assert [report.step_s for report in memory.speed.reports] == [0.01, 0.02]
    memory.hear_speeds(make_observed(OLD[0], template="old00000"), said.get)
    assert [report.step_s for report in memory.speed.reports] == [9.0]


async def test_a_speed_that_a_runtime_reports_is_shown_kept_and_decides() -> None:
    """One replica is measured; then more arrives than it carries, though its slots would do."""
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    await world.settle()
    speed = {"step_s": 0.1, "token_s": 0.002, "seq_s": 0.01, "chunk_tokens": 512}
    world.announce(world.pods[0], steps=64, speed=speed)
    await world.settle()
    assert world.status.speed is not None
    assert world.status.speed.prefill_tokens_per_second == 500
    world.restart()
    for second in range(20):
        world.now += 1
        world.demand(running=8, arrivals=1 + 4 * second, arrived_tokens=1000 * second)
        await world.settle()
    assert world.status.speed.step_seconds == 0.1
    assert world.status.scaling is not None
    assert "ArrivalRate" in [change.reason for change in world.status.scaling.changes]
    assert world.status.scaling.desired > 1
    assert world.status.scaling.inputs.requests_per_second is not None
    assert world.status.scaling.inputs.requests_per_second < 2
