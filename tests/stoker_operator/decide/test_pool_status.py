"""What a pool says of itself: full, empty, hindered, and what its deployments cannot use."""

from __future__ import annotations

from typing import Any

from stoker_api.conditions import format_instant
from stoker_api.status import PoolSizing, WarmPoolStatus
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Failure, ObservedPod
from stoker_operator.decide.pool_status import PoolSources, derive_pool_status, keep_sizing
from support.builders import make_failed, make_observed, make_old, make_pod, make_ready

NOW = 1795255200.0
SIZING = PoolSizing(desired=2, reason="PoolMinimum", message="size.min 2 suffices.")


def _derive(*pods: ObservedPod, **more: Any) -> WarmPoolStatus:
    defaults: dict[str, Any] = {"before": WarmPoolStatus(), "sizing": SIZING, "adopted": 1}
    observed = make_observed(*pods)
    return derive_pool_status(PoolSources(observed=observed, selector="s", **defaults | more), NOW)


def _said(status: WarmPoolStatus, kind: str) -> tuple[str, str, str]:
    found = next(c for c in status.conditions if c.type == kind)
    return found.status, found.reason, found.message


def test_a_full_pool() -> None:
    status = _derive(make_ready(), make_ready("b"))
    assert (status.standby, status.starting, status.adopted, status.selector) == (2, 0, 1, "s")
    assert [c.status for c in status.conditions] == ["True"] * 5 + ["False"]
    assert _said(status, "Ready") == ("True", "StandbyWaits", "2 of 2 standbys wait.")
    assert _said(status, "Scaling")[1:] == ("PoolMinimum", "size.min 2 suffices.")
    assert _said(status, "Progressing")[1] == "UpToDate"
    assert status.conditions[0].last_transition_time == format_instant(NOW)
    assert status.sizing == SIZING


def test_a_pool_that_starts_is_not_ready_until_one_waits() -> None:
    status = _derive(make_pod(), make_pod("b"))
    assert _said(status, "Ready")[:2] == ("False", "PoolEmpty")
    assert _said(status, "Progressing")[1] == "Starting"
    assert status.starting == 2
    assert _said(_derive(make_ready(), make_pod("b")), "Ready")[0] == "True"


def test_a_pool_of_none_is_as_wanted() -> None:
    status = _derive(sizing=PoolSizing(reason="PoolMinimum"))
    assert _said(status, "Ready")[:2] == ("True", "StandbyWaits")
    assert _said(status, "Scheduled")[1] == "NoPodsWanted"


def test_what_hinders_comes_first() -> None:
    pull = Failure("ImagePullFailed", "no such image")
    status = _derive(make_failed(), failures=FailureMemory(failure=pull))
    assert _said(status, "Ready") == ("False", "ImagePullFailed", "no such image")
    assert _said(status, "Progressing")[:2] == ("False", "ImagePullFailed")
    refused = _derive(rejection=Failure("PodRejected", "quota"))
    assert _said(refused, "Ready")[:2] == ("False", "PodRejected")
    assert _said(refused, "Scheduled") == ("False", "PodRejected", "quota")
    other = _derive(make_failed(), failures=FailureMemory(failure=Failure("OutOfMemory", "m")))
    assert _said(other, "Progressing")[1] == "UpToDate"


def test_places_are_told_in_the_schedulers_words() -> None:
    stuck = make_pod(scheduled=False, unschedulable="0/1 nodes.")
    assert _said(_derive(stuck), "Scheduled")[2].startswith("0/1 nodes. Free or add a node")
    assert _said(_derive(make_pod(scheduled=False)), "Scheduled")[:2] == (
        "Unknown",
        "PodsPending",
    )


def test_standbys_of_an_older_spec_are_being_replaced() -> None:
    assert _said(_derive(make_old(), make_ready()), "Progressing")[1] == "RollingOut"


def test_lists_are_short_and_count_the_rest() -> None:
    status = _derive(make_ready(), unfit=("a: x", "b: y", "c: z", "d: w"), missing=("m",))
    assert _said(status, "Fits")[2] == "a: x; b: y; c: z; and 1 more. Those start fresh pods."
    assert _said(status, "ModelAvailable")[2] == "m. Standbys are kept without it."


def test_numbers_alone_are_no_news() -> None:
    moved = SIZING.model_copy(update={"wakes_per_hour": 3.0, "message": "other numbers"})
    assert keep_sizing(SIZING, moved) is moved, "a wake is news"
    assert keep_sizing(moved, SIZING) is moved, "that it is forgotten is none"
    grown = moved.model_copy(update={"desired": 3})
    assert keep_sizing(SIZING, grown) is grown
    assert keep_sizing(None, moved) is moved
