"""Rates, sizes, service and needs from running totals."""

from __future__ import annotations

import pytest

from stoker_operator.decide.history import NEED_LEVELS, History, Sizes
from stoker_operator.decide.observed import ObservedDemand, Policy
from support.builders import make_demand

POLICY = Policy(slots=4)


def _arriving(rate_per_s: float, seconds: int, history: History | None = None) -> History:
    history = history or History().seen(make_demand(), POLICY, 0.0)
    begun, total = history.at or 0.0, history.arrivals
    for second in range(1, seconds + 1):
        arrivals = total + round(rate_per_s * second)
        demand = make_demand(running=1, arrivals=arrivals, active_at=begun + second)
        history = history.seen(demand, POLICY, begun + second)
    return history


def test_a_steady_rate_is_found_with_room_for_noise() -> None:
    history = _arriving(10, 300)
    assert history.recent_rate_per_s() == pytest.approx(10, rel=0.1)
    assert 10 < history.rate_per_s() < 13


def test_three_requests_in_a_row_are_no_burst_but_a_hundred_are() -> None:
    assert _arriving(3, 1).rate_per_s() < 0.5
    assert _arriving(100, 1).rate_per_s() > 10


def test_silence_fades_the_rate() -> None:
    history = _arriving(10, 60)
    later = history.seen(make_demand(arrivals=600, active_at=60), POLICY, 600.0)
    assert later.rate_per_s() < 0.01


def test_only_growth_counts_when_a_gateway_restarts() -> None:
    history = _arriving(10, 10)
    fallen = history.seen(make_demand(running=1, arrivals=3), POLICY, 10.0)
    assert fallen.arrivals == 3
    assert fallen.num_seen == history.num_seen
    assert fallen.seen(make_demand(running=1, arrivals=5), POLICY, 11.0).num_seen == 102


def test_a_clock_that_goes_back_counts_as_no_time() -> None:
    history = _arriving(10, 10)
    back = history.seen(make_demand(running=1, arrivals=101, active_at=5), POLICY, 5.0)
    assert back.slow == pytest.approx(history.slow + 1)


def test_a_look_at_nothing_new_costs_nothing() -> None:
    history = _arriving(1, 5)
    assert history.seen(make_demand(running=1, arrivals=5), POLICY, 5.0) is history


def test_the_service_rate_is_learned_while_requests_wait() -> None:
    history, arrivals = History().seen(make_demand(), POLICY, 0.0), 0
    for second in range(1, 60):
        assert second < 30 or history.service_rate_per_s()
        arrivals += 3
        demand = make_demand(queued=20, running=8, arrivals=arrivals, active_at=second)
        history = history.seen(demand, POLICY, float(second))
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


def test_the_floor_is_what_sufficed_for_most_of_the_time() -> None:
    history = History().with_need(1, 600).with_need(3, 60)
    assert history.floor(0.5) == 1
    assert history.floor(0.99) == 3
    assert history.with_need(9, 0) is history
    assert History().with_need(99, 1e9).floor(0.9) == NEED_LEVELS
    assert History().floor(0.9) == 0
    assert History(needs=(0.5,) * (NEED_LEVELS + 1)).floor(1.1) == NEED_LEVELS


def test_a_first_look_takes_totals_without_counting_them() -> None:
    demand = ObservedDemand(known=True, running=2, arrivals=500, arrived_tokens=9000)
    history = History().seen(demand, POLICY, 10.0)
    assert (history.arrivals, history.tokens, history.num_seen) == (500, 9000, 0)
