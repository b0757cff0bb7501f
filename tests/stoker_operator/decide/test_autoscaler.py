"""The autoscaler: what is wanted, why, and when it wants to be asked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.conditions import Reason
from stoker_operator.decide.autoscaler import ScaleDecision, ScaleState, decide_scale
from stoker_operator.decide.gaps import Gaps
from stoker_operator.decide.history import History, Sizes
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.replica import ReplicaModel
from support.builders import make_demand

NOW = 1000.0
IDLE = Policy(idle_timeout_s=60)


def _decide(
    replicas: int, demand: ObservedDemand, policy: Policy = IDLE, state: ScaleState | None = None
) -> ScaleDecision:
    return decide_scale(policy, replicas, demand, state or ScaleState(), NOW)


@pytest.mark.parametrize(
    ("queued", "running", "replicas", "wanted", "reason"),
    [
        (1, 0, 0, 1, Reason.DEMAND_AT_ZERO),
        (10, 0, 0, 1, Reason.DEMAND_AT_ZERO),
        (37, 0, 0, 1, Reason.DEMAND_AT_ZERO),
        (38, 0, 0, 2, Reason.DEMAND_AT_ZERO),
        (100, 0, 0, 3, Reason.DEMAND_AT_ZERO),
        (100, 0, 3, 3, Reason.BUSY),
        (5, 32, 1, 1, Reason.BUSY),
        (6, 32, 1, 2, Reason.QUEUE_DEPTH),
        (1000, 0, 0, 10, Reason.AT_MAX_REPLICAS),
        (1000, 320, 10, 10, Reason.AT_MAX_REPLICAS),
        (0, 32, 1, 1, Reason.BUSY),
    ],
)
def test_goes_up_by_requests_in_flight(
    queued: int, running: int, replicas: int, wanted: int, reason: Reason
) -> None:
    decision = _decide(replicas, make_demand(queued, running, active_at=NOW))
    assert (decision.replicas, decision.reason) == (wanted, reason)


def test_a_small_engine_needs_more_replicas_for_the_same_queue() -> None:
    policy = Policy(slots=2, target_queue_depth=1)
    assert _decide(0, make_demand(6), policy).replicas == 2
    assert _decide(2, make_demand(6), policy).replicas == 2


def test_starting_replicas_keep_the_reason_for_which_they_start() -> None:
    first = _decide(0, make_demand(3))
    second = _decide(1, make_demand(3), state=first.state)
    assert (second.reason, second.message) == (Reason.DEMAND_AT_ZERO, first.message)
    third = _decide(1, make_demand(0, 3), state=second.state)
    assert third.reason == Reason.BUSY


def test_a_fixed_size_is_not_discussed() -> None:
    decision = _decide(7, make_demand(500), Policy(fixed=2))
    assert (decision.replicas, decision.reason) == (2, Reason.FIXED_REPLICAS)


@pytest.mark.parametrize(
    ("replicas", "low", "high", "held"), [(3, 0, 10, 3), (0, 2, 10, 2), (5, 0, 4, 4)]
)
def test_holds_what_there_is_while_demand_is_unknown(
    replicas: int, low: int, high: int, held: int
) -> None:
    policy = Policy(min_replicas=low, max_replicas=high)
    decision = _decide(replicas, ObservedDemand(), policy)
    assert (decision.replicas, decision.reason) == (held, Reason.DEMAND_UNKNOWN)


def test_wakes_at_once_on_what_one_of_two_gateways_says() -> None:
    assert _decide(0, make_demand(1, known=False)).replicas == 1


def test_idle_replicas_stay_until_the_idle_timeout_and_then_all_go() -> None:
    early = _decide(3, make_demand(active_at=NOW - 59))
    assert (early.replicas, early.reason, early.wake_at) == (3, Reason.IDLE_WINDOW, NOW + 1)
    late = _decide(3, make_demand(active_at=NOW - 60))
    assert (late.replicas, late.reason) == (0, Reason.IDLE_TIMEOUT)


def test_idle_replicas_go_down_to_the_minimum_only() -> None:
    policy = Policy(min_replicas=2, idle_timeout_s=60)
    assert _decide(5, make_demand(active_at=0), policy).replicas == 2
    at_rest = _decide(2, make_demand(active_at=0), policy)
    assert (at_rest.replicas, at_rest.reason, at_rest.wake_at) == (2, Reason.STEADY, None)


def test_nobody_asks_and_nothing_runs() -> None:
    assert _decide(0, make_demand()).reason == Reason.STEADY


def test_nothing_is_taken_away_while_requests_wait() -> None:
    state = ScaleState(surplus_since=0)
    decision = _decide(5, make_demand(queued=1, running=1), state=state)
    assert (decision.replicas, decision.state.surplus_since) == (5, None)


def test_replicas_not_needed_for_the_idle_timeout_go_while_others_serve() -> None:
    first = _decide(4, make_demand(running=33))
    assert (first.replicas, first.wake_at) == (4, NOW + 60)
    assert (first.state.surplus_since, first.state.surplus_peak) == (NOW, 2)
    later = decide_scale(IDLE, 4, make_demand(running=1), first.state, NOW + 60)
    assert (later.replicas, later.reason) == (2, Reason.IDLE_WINDOW)
    assert (later.state.surplus_since, later.state.surplus_peak) == (NOW + 60, 1)


def test_a_peak_that_needed_all_begins_the_window_anew() -> None:
    state = ScaleState(surplus_since=NOW - 60, surplus_peak=4)
    decision = _decide(4, make_demand(running=1), state=state)
    assert decision.replicas == 4
    assert (decision.state.surplus_since, decision.state.surplus_peak) == (NOW, 1)


def test_a_surplus_may_go_before_the_last_request_is_forgotten() -> None:
    state = ScaleState(surplus_since=NOW - 60, surplus_peak=1)
    decision = _decide(3, make_demand(active_at=NOW - 10), state=state)
    assert (decision.replicas, decision.wake_at) == (1, NOW + 50)


@pytest.mark.parametrize(
    ("replicas", "policy", "wanted", "reason"),
    [
        (1, Policy(min_replicas=3), 3, Reason.AT_MIN_REPLICAS),
        (8, Policy(max_replicas=4), 4, Reason.AT_MAX_REPLICAS),
    ],
)
def test_a_changed_policy_moves_what_is_there(
    replicas: int, policy: Policy, wanted: int, reason: Reason
) -> None:
    decision = _decide(replicas, make_demand(running=1, active_at=NOW), policy)
    assert (decision.replicas, decision.reason) == (wanted, reason)


demands = st.builds(
    ObservedDemand,
    known=st.booleans(),
    queued=st.integers(0, 500),
    running=st.integers(0, 500),
    active_at=st.floats(0, NOW),
)
policies = st.builds(
    Policy,
    min_replicas=st.integers(0, 5),
    max_replicas=st.integers(5, 20),
    target_queue_depth=st.integers(1, 50),
    idle_timeout_s=st.floats(1, 500),
    slots=st.integers(1, 64),
)


@given(policies, demands, st.integers(0, 30))
def test_stays_within_its_bounds(policy: Policy, demand: ObservedDemand, replicas: int) -> None:
    decision = _decide(replicas, demand, policy)
    assert policy.min_replicas <= decision.replicas <= policy.max_replicas
    assert decision.message
    assert decision.wake_at is None or decision.wake_at > NOW


@given(policies, demands, st.integers(0, 20))
def test_asked_twice_it_does_not_ask_for_more(
    policy: Policy, demand: ObservedDemand, replicas: int
) -> None:
    first = _decide(replicas, demand, policy)
    again = _decide(first.replicas, demand, policy, first.state)
    assert again.replicas == first.replicas


@given(policies, demands, st.integers(0, 20))
def test_never_takes_away_while_requests_wait_or_on_missing_data(
    policy: Policy, demand: ObservedDemand, replicas: int
) -> None:
    decision = _decide(replicas, demand, policy)
    if demand.queued or not demand.known:
        assert decision.replicas >= min(replicas, policy.max_replicas)


@given(policies, demands, st.integers(0, 20), st.integers(1, 100))
def test_more_waiting_never_means_fewer_replicas(
    policy: Policy, demand: ObservedDemand, replicas: int, more: int
) -> None:
    fuller = ObservedDemand(
        known=demand.known,
        queued=demand.queued + more,
        running=demand.running,
        active_at=demand.active_at,
    )
    less = _decide(replicas, demand, policy).replicas
    assert _decide(replicas, fuller, policy).replicas >= less


def _lonely(idle_at: float) -> ScaleState:
    """After nine gaps of more than an hour."""
    return ScaleState(
        history=History(at=NOW - 1, gaps=Gaps(weights=(0.0,) * 18 + (9.0,), idle_at=idle_at))
    )


@pytest.mark.parametrize(
    ("first_wake_s", "idle_s", "left"),
    [(None, 6, 1), (None, 69, 1), (None, 70, 0), (0.2, 1.9, 1), (0.2, 2, 0), (1.5, 6, 1)],
    ids=["at once", "nearly", "after a minute", "parked, at once", "parked", "not quite in time"],
)
def test_the_reason_for_an_early_sleep_names_the_gaps(
    first_wake_s: float | None, idle_s: float, left: int
) -> None:
    policy = Policy(idle_timeout_s=300, first_wake_s=first_wake_s)
    demand = make_demand(active_at=NOW - idle_s)
    decision = _decide(1, demand, policy, _lonely(NOW - idle_s))
    assert decision.replicas == left
    assert decision.reason == (Reason.IDLE_WINDOW if left else Reason.IDLE_COST)


def test_no_knowledge_of_gaps_outlasts_the_idle_timeout() -> None:
    decision = _decide(1, make_demand(active_at=NOW - 30), Policy(idle_timeout_s=30), _lonely(NOW))
    assert (decision.replicas, decision.reason) == (0, Reason.IDLE_TIMEOUT)


def test_a_surplus_outlasts_the_early_sleep_of_a_parked_replica() -> None:
    policy = Policy(idle_timeout_s=300, first_wake_s=1.0, cold_start_s=25)
    demand = make_demand(active_at=NOW - 6)
    assert _decide(2, demand, policy, _lonely(NOW - 6)).replicas == 2
    gone = decide_scale(policy, 2, demand, _lonely(NOW - 6), NOW + 70)
    assert (gone.replicas, gone.reason) == (0, Reason.IDLE_COST)


def test_a_start_that_is_sometimes_late_is_begun_earlier() -> None:
    gaps = Gaps(recent_s=(600.0,) * 6, weights=(0.0,) * 12 + (6.0,) + (0.0,) * 6, idle_at=NOW)
    state = ScaleState(history=History(at=NOW - 1, gaps=gaps))
    usual = _decide(0, make_demand(active_at=NOW), Policy(cold_start_s=25), state)
    late = Policy(cold_start_s=25, late_start_s=60)
    earlier = _decide(0, make_demand(active_at=NOW), late, state)
    assert (usual.wake_at, earlier.wake_at) == (NOW + 552, NOW + 522)


def test_a_minimum_is_never_left_for_an_expected_request() -> None:
    gaps = Gaps(recent_s=(600.0,) * 6, weights=(0.0,) * 12 + (6.0,) + (0.0,) * 6, idle_at=NOW)
    state = ScaleState(history=History(at=NOW - 1, gaps=gaps))
    policy = Policy(min_replicas=1, idle_timeout_s=300, cold_start_s=25)
    decision = _decide(2, make_demand(active_at=NOW - 80), policy, state)
    assert (decision.replicas, decision.reason) == (1, Reason.IDLE_COST)


def test_a_measured_service_rate_sizes_where_nothing_was_calibrated() -> None:
    history = History(
        at=NOW - 1, arrivals=600, long=2000.0, slow=500.0, middle=125.0, middle_s=12.5,
        served=100.0, served_replica_s=50.0,
    )  # fmt: skip
    demand = make_demand(running=20, arrivals=610, active_at=NOW)
    decision = _decide(1, demand, Policy(cold_start_s=25), ScaleState(history=history))
    assert decision.replicas >= 6


def _needing_eleven() -> tuple[ObservedDemand, ScaleState]:
    history = History(at=NOW, long=2000.0, slow=500.0, middle=125.0, middle_s=12.5, in_flight=9)
    rate = history.rate_per_s() / 10.5
    watched = ScaleState(NOW - 100, 11, history=history, planned=(NOW, rate, rate))
    return make_demand(running=9, active_at=NOW), watched


@pytest.mark.parametrize(
    ("replicas", "wanted"), [(9, 11), (10, 10), (11, 11), (12, 12), (13, 11)],
    ids=["too few", "one short", "enough", "one over", "too many"],
)  # fmt: skip
def test_a_fleet_of_tens_is_not_changed_for_one(replicas: int, wanted: int) -> None:
    demand, state = _needing_eleven()
    assert _decide(replicas, demand, Policy(max_replicas=50, cold_start_s=25), state).replicas == (
        wanted
    )


def test_long_prompts_are_not_taken_for_the_promise_of_long_answers() -> None:
    model = ReplicaModel(16000, 0.008, 0.00025, 512)
    rates = []
    for outputs in (Sizes(), Sizes(256, 0, 500)):
        history = History(at=NOW - 1, sizes=Sizes(13000, 13000.0**2, 500), outputs=outputs)
        demand = make_demand(running=1, active_at=NOW)
        state = ScaleState(history=history)
        rates.append(_decide(1, demand, Policy(model=model), state).state.planned)
    assert rates[0] == rates[1] is not None
