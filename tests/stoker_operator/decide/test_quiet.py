"""When what nobody waits for is left: after an order, after readiness, never for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.quiet import AHEAD_S, Quiet

QUIET = Quiet(ordered_s=1.0, answering_s=0.5)
INSTANTS = st.lists(st.floats(0, 1e9), max_size=4)


@pytest.mark.parametrize(
    ("ordered", "ready", "until"),
    [
        ([], [], None),
        ([99.5], [], 100.5),
        ([99.0], [], None),
        ([99.2], [99.9], 100.4),
        ([99.8], [99.9], 100.8),
        ([99.0], [99.5], None),
        ([90.0, 99.6], [90.5], 100.6),
        ([100.0], [100.0], 101.0),
        ([100.0000004], [], 101.0000004),  # as a mark is rounded
        ([100.2], [160.0], None),  # the clocks of nodes differ
    ],
)
def test_quiet_lasts_from_an_order_until_after_the_first_answers(
    ordered: list[float], ready: list[float], until: float | None
) -> None:
    assert QUIET.until(ordered, ready, 100.0) == until


def test_wakes_that_follow_each_other_for_ever_are_disturbed_now_and_then() -> None:
    since, loud = None, []
    for tick in range(100):
        now = 0.5 * tick
        until, since = QUIET.begin_or_end(now + 1.0, since, now)
        if until is None:
            loud.append(now)
        else:
            assert since is not None
            assert now < until <= since + QUIET.longest_s
    assert loud == [3.0 + 3.5 * n for n in range(14)]


def test_quiet_that_ended_begins_anew() -> None:
    until, since = QUIET.begin_or_end(11.0, None, 10.0)
    assert (until, since) == (11.0, 10.0)
    assert QUIET.begin_or_end(None, since, 11.0) == (None, None)
    assert QUIET.begin_or_end(51.0, None, 50.0) == (51.0, 50.0)


@given(INSTANTS, INSTANTS, st.floats(0, 1e9))
def test_no_clock_makes_it_last(ordered: list[float], ready: list[float], now: float) -> None:
    until = QUIET.until(ordered, ready, now)
    assert until is None or now < until <= now + AHEAD_S + QUIET.ordered_s
