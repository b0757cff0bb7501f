"""What a restarted operator starts from."""

from __future__ import annotations

import pytest

from stoker_api.status import ColdStart, LLMDeploymentStatus, ScalingStatus
from stoker_operator.decide.observed import ObservedPod
from stoker_operator.handlers.memory import recall
from support.builders import make_observed, make_old, make_ready


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
