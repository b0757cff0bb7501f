"""How long to stay awake, and when the next request is due, from the gaps of the past."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.gaps import EDGES_S, RECENT, Gaps

COLD_S = 25.0


def _after(lengths_s: Iterable[float], burst: int = 1) -> tuple[Gaps, float]:
    """Bursts of requests, a second apart, between gaps of these lengths."""
    gaps, now, arrivals = Gaps(), 1000.0, 0
    for length_s in lengths_s:
        gaps = gaps.seen(False, now, now)
        now += length_s
        for _ in range(burst):
            arrivals += 1
            gaps = gaps.seen(True, now, now).counted(arrivals, 1, COLD_S, now)
            now += 1.0
    return gaps.seen(False, now, now), now


def test_nothing_is_concluded_from_a_few_gaps() -> None:
    gaps, _ = _after([100] * 4)
    assert gaps.keep_awake_s(COLD_S, 2.5) is None
    assert gaps.expected_s(COLD_S) is None


def test_short_gaps_are_waited_out_and_long_ones_are_not() -> None:
    short, _ = _after([40, 50, 30, 45, 20, 55, 35, 48])
    assert short.keep_awake_s(COLD_S, 2.5) == 60
    long, _ = _after([3000, 9000, 5000, 20000, 2800, 15000, 4000, 7000])
    assert long.keep_awake_s(COLD_S, 2.5) == EDGES_S[0]


def test_a_mixture_is_waited_out_up_to_its_short_part() -> None:
    gaps, _ = _after([50, 4000, 40, 55, 58, 5000, 45, 52, 30, 6000])
    assert gaps.keep_awake_s(COLD_S, 2.5) == 60


def test_a_wake_that_many_requests_wait_for_is_dearer() -> None:
    lengths_s = [150.0, 160, 170, 155, 165, 170, 175, 160, 150, 165, 170, 160]
    lonely, _ = _after(lengths_s)
    crowded, _ = _after(lengths_s, burst=20)
    assert crowded.hits > 5 * lonely.hits
    assert lonely.keep_awake_s(COLD_S, 2.5) == EDGES_S[0]
    assert crowded.keep_awake_s(COLD_S, 2.5) == 180


def test_pauses_within_a_burst_are_no_gaps() -> None:
    gaps, _ = _after([1.0] * 100)
    assert sum(gaps.weights) == 0


def test_gaps_like_a_clock_tell_the_next_request() -> None:
    gaps, _ = _after([600, 610, 598, 605, 602, 600])
    expected = gaps.expected_s(COLD_S)
    assert expected is not None
    assert expected[0] < 598
    assert expected[1] > 610


@pytest.mark.parametrize(
    "lengths_s",
    [[600, 900, 598, 605, 602, 600], [60] * RECENT, [600] * (RECENT - 1)],
    ids=["one differs", "too short to sleep in", "too few"],
)
def test_silence_where_the_next_request_cannot_be_told(lengths_s: list[float]) -> None:
    gaps, _ = _after(lengths_s)
    assert gaps.expected_s(COLD_S) is None


def test_a_gap_in_progress_begins_once() -> None:
    gaps = Gaps().seen(False, 90.0, 100.0)
    assert gaps.seen(False, 90.0, 200.0) is gaps
    assert gaps.idle_at == 90.0
    assert Gaps().seen(True, 0.0, 5.0) == Gaps()


@given(st.lists(st.floats(0.1, 1e6), max_size=60), st.floats(1, 300), st.floats(0, 20))
def test_memory_stays_bounded_and_answers_sane(
    lengths_s: list[float], cold_s: float, price: float
) -> None:
    gaps, _ = _after(lengths_s)
    assert len(gaps.weights) == len(EDGES_S) + 1
    assert len(gaps.recent_s) <= RECENT
    awake_s = gaps.keep_awake_s(cold_s, price)
    assert awake_s is None or awake_s in EDGES_S
