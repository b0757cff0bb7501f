"""Other settings worth knowing about, and the table that compares them."""

from __future__ import annotations

import pytest

from stoker_cli.bench.trace import Row
from stoker_cli.simulate.account import Board, describe_policy, vary
from stoker_cli.simulate.run import Simulation
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


def test_costs_are_in_gpu_seconds_and_compared_with_what_was_given() -> None:
    requests = [Row(0.0, 100, 10), Row(1000.0, 100, 10)]
    policy = Policy(cold_start_s=10, idle_timeout_s=60)
    given = Simulation(policy, MODEL, requests).run()
    table = Board(MODEL, requests, 4, given).draw(policy, {"none": policy, **vary(policy)})
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["GPU-s"][0] == f"{4 * given.spent.total:.0f}"
    assert columns["± %"][:2] == ["", ""]
    rows = dict(zip(columns["setting"], columns["± %"], strict=True))
    assert str(rows["idleTimeout 240s"]).startswith("+")
    assert str(rows["idleTimeout 15s"]).startswith("-")
