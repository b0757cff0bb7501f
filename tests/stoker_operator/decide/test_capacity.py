"""Requests a second that a replica carries within the wait goal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.capacity import full_rate_per_s, plan_rate_per_s
from stoker_operator.decide.history import Sizes
from stoker_operator.decide.replica import ReplicaModel

MODEL = ReplicaModel(prefill_tokens_s=16000, step_s=0.008, step_per_seq_s=0.00025, chunk_tokens=512)


def _rate(mean: float, variation: float = 1.0, output: float = 100.0) -> float:
    return plan_rate_per_s(MODEL, Sizes(mean, variation * mean * mean), output, 32)


def test_short_prompts_are_bound_by_slots() -> None:
    assert 8 < _rate(500) < 16
    few = plan_rate_per_s(MODEL, Sizes(500, 500 * 500), 100, 8)
    assert few < 0.6 * _rate(500)


def test_long_prompts_are_bound_by_their_wait() -> None:
    assert _rate(12000) < 0.7
    assert _rate(12000, variation=0.0) > 1.3 * _rate(12000, variation=4.0)


def test_prompts_that_miss_the_goal_alone_wait_as_long_as_they_take() -> None:
    """A prompt of 62 s cannot be had in 2 s, however many replicas there are."""
    assert 0.2 < _rate(1e6) * 1e6 / MODEL.prefill_tokens_s < 0.5
    assert _rate(2e6) / _rate(1e6) == pytest.approx(0.5, rel=0.01)


def test_a_slow_machine_without_a_goal_for_tokens_is_used() -> None:
    """A CPU with 0.2 s a step: no number of replicas would bring tokens in 50 ms."""
    slow = ReplicaModel(300, 0.15, 0.05, 512)
    patient = replace(slow, token_goal_s=math.inf)
    sizes = Sizes(100, 100 * 100)
    assert plan_rate_per_s(slow, sizes, 50, 8) == 1e-3
    assert plan_rate_per_s(patient, sizes, 50, 8) > 0.1


def test_tokens_that_would_come_too_slowly_bound_the_rate() -> None:
    slow = ReplicaModel(16000, 0.03, 0.001, 512)
    patient = ReplicaModel(16000, 0.03, 0.001, 512, token_goal_s=0.2)
    sizes = Sizes(100, 0)
    assert plan_rate_per_s(slow, sizes, 200, 32) < 0.8 * plan_rate_per_s(patient, sizes, 200, 32)


@pytest.mark.parametrize(
    ("mean", "output", "expected"),
    [(512, 320, 1 / (0.032 + 10 * 0.016)), (5120, 20, 1 / (0.32 + 10 * 0.0085))],
    ids=["32 answers share each step", "a prompt of ten chunks"],
)
def test_a_full_replica_ends_what_its_steps_allow(
    mean: float, output: float, expected: float
) -> None:
    assert full_rate_per_s(MODEL, Sizes(mean), output, 32) == pytest.approx(expected)


@given(st.floats(10, 20000), st.floats(0, 5), st.floats(1, 2000))
def test_a_full_replica_is_never_slower_than_one_that_holds_the_goals(
    mean: float, variation: float, output: float
) -> None:
    full = full_rate_per_s(MODEL, Sizes(mean), output, 32)
    assert full >= _rate(mean, variation, output) * 0.999


@given(st.floats(10, 20000), st.floats(0, 5), st.floats(1, 2000), st.floats(1.1, 3))
def test_longer_prompts_and_answers_never_raise_the_rate(
    mean: float, variation: float, output: float, more: float
) -> None:
    rate = _rate(mean, variation, output)
    assert _rate(mean * more, variation, output) <= rate * 1.001
    assert _rate(mean, variation, output * more) <= rate * 1.001
