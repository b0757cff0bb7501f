"""What it is worth to spare a request a wake, from how many had to meet one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.wakes import DAY_S, GOAL, LEAST_SHARE, Wakes

COLD_S = 25.0
LIMIT = 3.0


def _after(waiting: int, served: int) -> Wakes:
    """One request a minute: so many that meet a wake, then so many that do not."""
    wakes, now = Wakes(), 0.0
    for index in range(waiting + served):
        now += 60.0
        wakes = wakes.seen(1, COLD_S if index < waiting else None, now)
    return wakes


def test_a_new_deployment_begins_at_the_limit() -> None:
    assert Wakes().price(LIMIT) == pytest.approx(LIMIT)


def test_a_goal_held_with_ease_makes_sparing_cheap() -> None:
    assert _after(0, 1000).price(LIMIT) == pytest.approx(LEAST_SHARE * LIMIT)


def test_the_price_rises_with_the_share_that_waits_up_to_the_limit() -> None:
    prices = [_after(waiting, 400 - waiting).price(LIMIT) for waiting in (0, 6, 12, 40, 400)]
    assert prices == sorted(prices)
    assert prices[1] < prices[2] < prices[3]
    assert prices[3] == prices[4] == LIMIT


def test_at_the_goal_the_price_is_the_limit() -> None:
    assert Wakes(came=1000, waited=1000 * (1 - GOAL)).price(LIMIT) == pytest.approx(LIMIT)


def test_those_who_come_while_a_wake_runs_wait_for_it_as_well() -> None:
    wakes = Wakes().seen(1, COLD_S, 100.0).seen(7, None, 124.0).seen(5, None, 126.0)
    assert (wakes.waited, wakes.came) == pytest.approx((8, 13), rel=1e-3)


def test_a_look_without_arrivals_changes_nothing() -> None:
    wakes = Wakes().seen(1, COLD_S, 100.0)
    assert wakes.seen(0, None, 200.0) is wakes


def test_yesterday_fades() -> None:
    wakes = Wakes().seen(100, COLD_S, 0.0).seen(100, None, 4 * DAY_S)
    assert wakes.waited < 2
    assert wakes.came < 102


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    wakes = Wakes().seen(10, None, 1000.0).seen(10, None, 0.0)
    assert wakes.came == 20


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.floats(-10, 1e5)), max_size=40),
    st.floats(0.1, 20),
)
def test_the_price_stays_between_its_bounds(
    looks: list[tuple[int, bool, float]], limit: float
) -> None:
    wakes, now = Wakes(), 0.0
    for came, asleep, gap_s in looks:
        now += gap_s
        wakes = wakes.seen(came, COLD_S if asleep else None, now)
    assert 0 <= wakes.waited <= wakes.came * (1 + 1e-9)
    assert LEAST_SHARE * limit * 0.999 <= wakes.price(limit) <= limit
