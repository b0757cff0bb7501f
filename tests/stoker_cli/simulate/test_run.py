"""The operator's rules in simulated time: nobody is forgotten and every second is accounted for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_cli.bench.trace import Row
from stoker_cli.simulate.run import Outcome, Simulation
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel

MODEL = ReplicaModel(prefill_tokens_s=16000, step_s=0.008, step_per_seq_s=0.00025, chunk_tokens=512)
POLICY = Policy(cold_start_s=20, idle_timeout_s=60, model=MODEL)


def _run(arrivals_s: list[float], policy: Policy = POLICY) -> Outcome:
    requests = [Row(at, 500, 50) for at in sorted(arrivals_s)]
    return Simulation(policy, MODEL, requests).run()


def test_one_request_wakes_one_replica_which_sleeps_again() -> None:
    outcome = _run([5.0])
    assert outcome.starts == 1
    assert 20 < outcome.waits_s[0] < 21
    assert 80 < outcome.spent.total < 83
    assert outcome.samples[-1].reason == "IdleTimeout"
    assert outcome.samples[-1].ready == 0


def test_minimum_instances_run_before_the_first_request_comes() -> None:
    outcome = _run([5.0, 500.0, 5000.0], Policy(min_replicas=1, cold_start_s=20, model=MODEL))
    assert max(outcome.waits_s) < 1
    assert outcome.starts == 0
    assert outcome.spent.total > 5000
    assert max(_run([5.0], Policy(fixed=2, cold_start_s=20)).waits_s) < 1


def test_a_parked_model_wakes_quickly_and_costs_its_share_while_it_sleeps() -> None:
    arrivals = [5.0, 100_000.0]
    parked, deleted = _run(arrivals, replace(POLICY, first_wake_s=1)), _run(arrivals)
    assert max(parked.waits_s) < 2 < 20 < min(deleted.waits_s)
    assert 9_000 < parked.spent.total - deleted.spent.total < 10_100


def test_a_burst_out_of_silence_is_served_without_a_second_burst_of_replicas() -> None:
    outcome = _run([100 + i / 50 for i in range(500)], replace(POLICY, max_replicas=40))
    assert len(outcome.waits_s) == 500
    assert outcome.starts <= 12
    grown = [s.at for s in outcome.samples if s.ready + s.starting == outcome.starts]
    assert min(grown) <= 107, "what is ordered late comes too late"
    assert outcome.quantile_s(0.99) < 25


def test_a_wake_longer_than_the_hold_loses_requests_and_says_so() -> None:
    outcome = _run([0.5], Policy(cold_start_s=50, cold_start_timeout_s=5, idle_timeout_s=60))
    assert outcome.lost == 1
    assert outcome.attainment(2.0) == 0.0
    assert outcome.quantile_s(0.5) == 0.0


def test_clockwork_is_found_awake_after_a_few_rounds() -> None:
    outcome = _run([600.0 * i for i in range(1, 20)])
    assert all(wait < 2 for wait in outcome.waits_s[-8:])
    assert outcome.spent.total < 0.3 * 600 * 20


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 3000), min_size=1, max_size=80), st.integers(0, 2))
def test_every_request_is_answered_and_every_replica_paid(
    arrivals_s: list[float], low: int
) -> None:
    policy = Policy(
        min_replicas=low, cold_start_s=20, cold_start_timeout_s=600, idle_timeout_s=60, model=MODEL
    )
    outcome = _run(arrivals_s, policy)
    assert len(outcome.waits_s) == len(arrivals_s)
    assert outcome.lost == 0
    assert sum(sample.arrivals for sample in outcome.samples) == len(arrivals_s)
    assert all(low <= s.ready + s.starting <= policy.max_replicas for s in outcome.samples)
