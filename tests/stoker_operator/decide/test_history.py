"""Rates, sizes, service and needs from running totals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.history import LEAST_FILLED, History, Sizes
from stoker_operator.decide.observed import ObservedDemand, Policy
from support.builders import make_demand

POLICY = Policy(slots=4, cold_start_s=25)


def _seen(history: History, demand: ObservedDemand, now: float, asleep: bool = False) -> History:
    return history.seen(POLICY, demand, now, asleep)


def _arriving(rate_per_s: float, seconds: int, history: History | None = None) -> History:
    history = history or _seen(History(), make_demand(), 0.0)
    begun, total = history.at or 0.0, history.arrivals
    for second in range(1, seconds + 1):
        arrivals = total + round(rate_per_s * second)
        demand = make_demand(running=1, arrivals=arrivals, active_at=begun + second)
        history = _seen(history, demand, begun + second)
    return history


def test_a_steady_rate_is_found_with_room_for_noise() -> None:
    history = _arriving(10, 300)
    assert history.recent_rate_per_s() == pytest.approx(10, rel=0.1)
    assert 10 < history.rate_per_s() < 13


def test_a_steady_rate_needs_no_more_than_a_cold_start_to_be_found() -> None:
    assert all(9 < _arriving(10, seconds).rate_per_s() < 13 for seconds in (60, 120, 240, 900))


def test_what_one_short_window_shows_of_chance_moves_nothing() -> None:
    steady = _arriving(10, 900)
    clump = _seen(steady, make_demand(running=1, arrivals=9020, active_at=901), 901.0)
    assert clump.rate_per_s() < 1.05 * steady.rate_per_s()


@pytest.mark.parametrize("factor", [0.3, 3.0], ids=["down", "up"])
def test_a_change_is_followed_most_of_the_way_within_two_cold_starts(factor: float) -> None:
    steady = _arriving(10, 900)
    changed = _arriving(10 * factor, 50, steady)
    left = (changed.rate_per_s() - 10 * factor) / (10 - 10 * factor)
    assert -0.2 < left < 0.3


@pytest.mark.parametrize("cold_start_s", [2.0, 9.0, 100.0])
def test_a_wake_that_was_measured_leaves_the_rate_what_it_was(cold_start_s: float) -> None:
    steady = _arriving(10, 900)
    policy = Policy(slots=4, cold_start_s=cold_start_s)
    demand = make_demand(running=1, arrivals=9010, active_at=901)
    assert steady.seen(policy, demand, 901.0).rate_per_s() == pytest.approx(10, rel=0.15)


def test_a_silence_of_a_cold_start_ends_what_long_windows_know() -> None:
    busy = _arriving(10, 900)
    rested = _seen(busy, make_demand(arrivals=busy.arrivals, active_at=900), 901.0)
    for pause_s, known in ((20, True), (30, False)):
        at = 901.0 + pause_s
        woken = _seen(rested, make_demand(running=1, arrivals=busy.arrivals + 1, active_at=at), at)
        assert (woken.long > 1000) is known
        assert (woken.begun_at == at) is not known


def test_three_requests_in_a_row_are_no_burst_but_a_hundred_are() -> None:
    assert _arriving(3, 1).rate_per_s() < 0.5
    assert _arriving(100, 1).rate_per_s() > 10


def test_silence_fades_the_rate() -> None:
    history = _arriving(10, 60)
    later = _seen(history, make_demand(arrivals=600, active_at=60), 1800.0)
    assert later.rate_per_s() < 0.01


def test_only_growth_counts_when_a_gateway_restarts() -> None:
    history = _arriving(10, 10)
    fallen = _seen(history, make_demand(running=1, arrivals=3), 10.0)
    assert (fallen.arrivals, fallen.slow) == (3, history.slow)
    again = _seen(fallen, make_demand(running=1, arrivals=5), 10.0)
    assert again.slow == history.slow + 2


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    history = _arriving(10, 10)
    back = _seen(history, make_demand(running=1, arrivals=101, active_at=5), 5.0)
    assert back.slow == pytest.approx(history.slow + 1)


def test_a_look_at_nothing_new_costs_nothing() -> None:
    history = _arriving(1, 5)
    assert _seen(history, make_demand(running=1, arrivals=5), 5.0) is history


def test_the_service_rate_is_learned_while_requests_wait() -> None:
    history, arrivals = _seen(History(), make_demand(), 0.0), 0
    for second in range(1, 60):
        assert second < 30 or history.service_rate_per_s()
        arrivals += 3
        demand = make_demand(queued=20, running=8, arrivals=arrivals, active_at=second)
        history = _seen(history, demand, float(second))
    assert history.service_rate_per_s() == pytest.approx(1.5, rel=0.1)


def test_nothing_is_learned_from_replicas_with_room() -> None:
    assert _arriving(10, 300).service_rate_per_s() is None


def test_sizes_follow_tokens_and_their_spread() -> None:
    sizes = Sizes()
    for _ in range(300):
        sizes = sizes.with_sum(1, 100).with_sum(1, 1900)
    assert sizes.mean_tokens == pytest.approx(1000, rel=0.05)
    assert sizes.variation == pytest.approx(0.81, rel=0.1)
    assert Sizes().with_sum(0, 0) == Sizes()
    assert Sizes().variation == 1.0


def test_a_burst_out_of_silence_is_measured_from_its_first_second() -> None:
    history = _seen(History(), make_demand(active_at=0), 0.0)
    rates = []
    for second in range(1, 21):
        demand = make_demand(queued=10 * second, arrivals=10 * second, active_at=100 + second)
        history = _seen(history, demand, 100.0 + second, asleep=True)
        rates.append(history.burst_per_s())
    assert all(7 < rate < 11 for rate in rates)


def test_requests_that_find_nothing_running_count_as_waiting() -> None:
    history = _seen(History(), make_demand(), 0.0)
    history = _seen(history, make_demand(queued=3, arrivals=3), 10.0, asleep=True)
    history = _seen(history, make_demand(queued=5, arrivals=5), 11.0)
    assert (history.wakes.came, history.wakes.waited) == pytest.approx((5, 5), rel=1e-3)


def test_a_first_look_takes_totals_without_counting_them() -> None:
    demand = ObservedDemand(known=True, running=2, arrivals=500, arrived_tokens=9000)
    history = _seen(History(), demand, 10.0)
    assert (history.arrivals, history.tokens, history.slow) == (500, 9000, 0)


weights = st.tuples(*[st.floats(0, 500)] * 4)


@given(weights, weights, st.floats(LEAST_FILLED, 1.0))
def test_more_arrivals_never_mean_a_lower_rate(
    seen: tuple[float, ...], more: tuple[float, ...], filled: float
) -> None:
    def rates(fast: float, middle: float, slow: float, long: float) -> tuple[float, float]:
        history = History(fast=fast, middle=middle, slow=slow, long=long, filled=filled)
        return history.rate_per_s(), history.recent_rate_per_s()

    fewer, many = rates(*seen), rates(*map(sum, zip(seen, more, strict=True)))
    assert all(0 <= low <= high for low, high in zip(fewer, many, strict=True))
