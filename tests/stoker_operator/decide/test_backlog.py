"""Replicas that a queue is worth, and when those that start are enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.backlog import WAIT_GOAL_S, size_backlog, wait_goal_s
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel
from support.builders import make_demand

POLICY = Policy(cold_start_s=25, slots=32)


def _size(
    queued: int, oldest_s: float, replicas: int = 0, running: int = 0, arriving: float = 10.0
) -> float:
    demand = make_demand(queued, running, oldest_wait_s=oldest_s)
    return size_backlog(POLICY, demand, replicas, arriving, 11.0)


def test_the_example_of_the_docstring() -> None:
    assert _size(250, 0.0) == pytest.approx((10 + 125) / 11)


def test_a_burst_out_of_silence_is_met_while_its_own_wake_runs() -> None:
    assert round(_size(1, 0.0)) == 1
    assert round(_size(29, 3.0, replicas=1)) >= 2
    assert round(_size(60, 6.0, replicas=1)) >= 3


def test_replicas_that_start_count_for_what_they_will_do() -> None:
    assert _size(60, 6.0, replicas=8) == 0
    assert _size(200, 20.0, replicas=2) == 0


def test_what_ready_replicas_clear_within_a_cold_start_orders_nothing() -> None:
    assert _size(90, 1.0, replicas=1, running=32, arriving=4.0) == 0
    assert _size(900, 1.0, replicas=1, running=32, arriving=4.0) > 1


def test_a_lonely_batch_is_not_worth_many() -> None:
    batch = _size(100, 0.0, arriving=0.1)
    assert 0.5 < batch < 2
    assert _size(100, 0.0, arriving=10.0) > 2 * batch


def test_the_goal_is_the_calibrated_one() -> None:
    assert wait_goal_s(POLICY) == WAIT_GOAL_S
    assert wait_goal_s(Policy(model=ReplicaModel(1, 1, 1, 1, wait_goal_s=0.5))) == 0.5


@given(
    st.integers(0, 500), st.integers(0, 100), st.floats(0, 100), st.integers(0, 20),
    st.floats(0, 50), st.floats(0.05, 50),
)  # fmt: skip
def test_more_waiting_is_never_worth_fewer(
    queued: int, more: int, oldest_s: float, replicas: int, arriving: float, served: float
) -> None:
    def size(queue: int) -> float:
        demand = make_demand(queue, 0, oldest_wait_s=oldest_s)
        return size_backlog(POLICY, demand, replicas, arriving, served)

    assert 0 <= size(queued) <= size(queued + more) + 1e-9


@given(st.integers(1, 500), st.floats(0, 100), st.floats(0, 50), st.integers(0, 20))
def test_more_replicas_that_start_never_order_more(
    queued: int, oldest_s: float, arriving: float, replicas: int
) -> None:
    fewer = _size(queued, oldest_s, replicas, arriving=arriving)
    assert _size(queued, oldest_s, replicas + 1, arriving=arriving) <= fewer + 1e-9
