"""Other settings worth knowing about, and the table that compares them."""

from __future__ import annotations

import pytest

from stoker_cli.bench.trace import Row
from stoker_cli.simulate.account import Board, describe_policy, simulate_all, vary
from stoker_cli.simulate.advice import GIVEN, Goal, Spending
from stoker_cli.simulate.subject import Subject
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel

MODEL = ReplicaModel(1000, 0.008, 0.00025, 512, wait_goal_s=1)


@pytest.mark.parametrize("low", [0, 3])
def test_variations_change_one_setting_and_keep_the_bounds_in_order(low: int) -> None:
    others = vary(Policy(min_replicas=low, max_replicas=3))
    for policy in others.values():
        assert policy.min_replicas <= policy.max_replicas
    for word in ("idleTimeout", "minReplicas", "maxReplicas", "targetQueueDepth", "cold start"):
        assert any(name.startswith(word) for name in others)
    assert len(set(others.values())) == len(others)
    assert ("minReplicas 0" in others) == bool(low)
    assert ("warmPool, wake 1.9s" in others) != bool(low)


def test_a_pools_wake_is_taken_as_it_was_measured() -> None:
    others = vary(Policy(cold_start_s=8), parked_wake_s=0.7)
    assert others["warmPool, wake 0.7s"].first_wake_s == 0.7


def test_of_a_fixed_size_other_sizes_and_scaling_are_tried() -> None:
    assert list(vary(Policy(fixed=2))) == ["replicas 1", "replicas 3", "scaling 0 to 10"]
    assert list(vary(Policy(fixed=1))) == ["replicas 2", "scaling 0 to 10"]


def test_settings_are_told_in_the_words_of_the_spec() -> None:
    assert describe_policy(Policy(cold_start_s=8)) == (
        "minReplicas 0, maxReplicas 10, idleTimeout 300s, targetQueueDepth 5, cold start 8s"
    )
    assert describe_policy(Policy(fixed=2, cold_start_s=8)) == "replicas 2, cold start 8s"


def test_the_speed_is_put_in_the_operators_words() -> None:
    model = MODEL
    assert (model.step_s, model.step_per_seq_s, model.wait_goal_s) == (0.008, 0.00025, 1)


def board(gpus: int, price: float | None = None) -> Board:
    requests = [Row(0.0, 100, 10), Row(1000.0, 100, 10)]
    policy = Policy(cold_start_s=10, idle_timeout_s=60)
    policies = {GIVEN: policy, "none": policy} | vary(policy)
    outcomes = simulate_all(policies, MODEL, Subject("chat", requests))
    return Board(Goal(1.0, 0.99), Spending(gpus, price), outcomes)


def test_costs_are_in_gpu_seconds_and_compared_with_what_was_given() -> None:
    asked = board(gpus=4)
    table = asked.draw("title")
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["GPU-s"][0] == f"{4 * asked.outcomes[GIVEN].spent.total:.0f}"
    assert columns["± %"][:2] == ["", "0"]
    assert "cost" not in columns
    rows = dict(zip(columns["setting"], columns["± %"], strict=True))
    assert str(rows["idleTimeout 240s"]).startswith("+")
    assert str(rows["idleTimeout 15s"]).startswith("-")


def test_a_price_adds_what_it_comes_to() -> None:
    asked = board(gpus=2, price=3.0)
    heads, first, *_ = asked.rows()
    seconds, cost = (float(first[heads.index(head)]) for head in ("GPU-s", "cost"))
    assert cost == pytest.approx(seconds / 3600 * 3, abs=0.006)
    assert board(gpus=0, price=3.0).document()[0]["cost"] == pytest.approx(cost / 2, abs=0.006)


def test_programs_get_numbers_with_their_units() -> None:
    [first, *_] = board(gpus=2).document()
    assert first["setting"] == GIVEN
    assert first["gpu_seconds"].keys() == {"starting", "busy", "idle"}
    assert first["cost"] is None
    assert "replica_seconds" in board(gpus=0).document()[0]


def test_minimum_instances_are_paid_for_as_long_as_sleepers_are_watched() -> None:
    """A minute of requests, then silence until the idle timeout of the others: 300 s and more."""
    requests = [Row(at, 100, 10) for at in range(60)]
    policies = {GIVEN: Policy(cold_start_s=5), "minReplicas 1": Policy(min_replicas=1)}
    outcomes = simulate_all(policies, MODEL, Subject("chat", requests))
    totals = [one.spent.total for one in outcomes.values()]
    assert totals[1] > 350
    assert totals[1] == pytest.approx(totals[0], rel=0.1)
