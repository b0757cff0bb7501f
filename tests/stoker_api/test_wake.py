"""What remains of a wake, by what earlier ones took."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_api.status import LLMDeploymentStatus
from stoker_api.wake import estimate_remaining_s, order_totals


@pytest.mark.parametrize(
    ("elapsed_s", "remaining_s"),
    [
        pytest.param(0, 20, id="the median of all"),
        pytest.param(15, 10, id="of those that lasted longer"),
        pytest.param(25, 5, id="of the slowest"),
        pytest.param(60, 30, id="half as long again as it took so far"),
    ],
)
def test_what_remains_is_what_those_took_that_lasted_longer(
    elapsed_s: float, remaining_s: float
) -> None:
    assert estimate_remaining_s([[10.0, 20.0, 30.0]], 99, elapsed_s) == remaining_s


def test_a_higher_quantile_waits_longer() -> None:
    totals = [[10.0, 20.0, 30.0]]
    assert estimate_remaining_s(totals, 99, 5, share=0.75) == 20


def test_a_wake_that_outlasts_its_path_was_a_slower_one() -> None:
    totals = [[0.4, 0.5], [2.0, 3.0], [9.0]]
    assert estimate_remaining_s(totals, 30, 0.1) == pytest.approx(0.35)
    assert estimate_remaining_s(totals, 30, 1) == 1.5
    assert estimate_remaining_s(totals, 30, 4) == 5


def test_before_the_first_one_the_belief_counts_down() -> None:
    assert estimate_remaining_s([], 25, 5) == 20
    assert estimate_remaining_s([], 25, 40) == 20


def make_status(last: Any = None, **totals: list[float]) -> LLMDeploymentStatus:
    records = [{"path": path, "totals": seconds} for path, seconds in totals.items()]
    return LLMDeploymentStatus.model_validate({"coldStarts": records, "lastColdStart": last})


@pytest.mark.parametrize(
    ("status", "totals"),
    [
        pytest.param(make_status(), (), id="nothing was measured"),
        pytest.param(make_status({"total": 7}), ((7,),), id="an older operator kept the last one"),
        pytest.param(
            make_status({"path": "warm", "total": 2}, fresh=[8], warm=[2, 3], resident=[1]),
            ((2, 3), (8,)),
            id="the last path, then the slower ones",
        ),
        pytest.param(
            make_status({"path": "fresh", "total": 8}, fresh=[8], warm=[2]), ((8,),), id="fresh"
        ),
        pytest.param(
            make_status({"path": "new", "total": 8}, fresh=[8], warm=[2]),
            ((2,), (8,)),
            id="a path of a newer operator",
        ),
    ],
)
def test_the_path_of_the_last_wake_comes_first(
    status: LLMDeploymentStatus, totals: tuple[tuple[float, ...], ...]
) -> None:
    assert order_totals(status) == totals
