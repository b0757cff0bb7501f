"""The autoscaler over simulated time: bursts, troughs, restarts, jumps, and hours of silence."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_api.conditions import Reason
from stoker_operator.decide.autoscaler import (
    SHORTEST_AWAKE_S,
    ScaleDecision,
    ScaleState,
    decide_scale,
)
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.replica import ReplicaModel
from support.builders import make_demand

FAST = Policy(
    idle_timeout_s=600,
    cold_start_s=25,
    max_replicas=40,
    model=ReplicaModel(
        prefill_tokens_s=16000, step_s=0.008, step_per_seq_s=0.00025, chunk_tokens=512
    ),
)


@dataclass
class _Story:
    """A deployment whose requests run a second each, once a replica is ready for them."""

    policy: Policy = FAST
    replicas: int = 0
    state: ScaleState = field(default_factory=ScaleState)
    now: float = 0.0
    arrivals: int = 0
    waiting: deque[float] = field(default_factory=deque)
    """When those came that wait."""
    active_at: float = 0.0
    ready_at: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    reasons: set[Reason] = field(default_factory=set)
    spent_s: float = 0.0
    """Replica-seconds."""
    decision: ScaleDecision | None = None

    def run(self, rates: Iterable[int]) -> _Story:
        """One second for each rate."""
        for rate in rates:
            self._step(rate)
        return self

    def skip(self, seconds: float) -> _Story:
        """Silence, looked at only when the last decision asked for it, as the operator does."""
        end = self.now + seconds
        while self.now < end:
            due = self.decision.wake_at if self.decision else None
            self._step(0, min(end, max(due or end, self.now + 1)) - self.now)
        return self

    @property
    def queued(self) -> int:
        return len(self.waiting)

    def _step(self, rate: int, elapsed_s: float = 1) -> None:
        self.now += elapsed_s
        self.spent_s += elapsed_s * self.replicas
        self.arrivals += rate
        self.waiting.extend([self.now] * rate)
        ready = sum(at <= self.now for at in self.ready_at)
        running = min(self.queued, ready * self.policy.slots // 2)
        for _ in range(running):
            self.waiting.popleft()
        if rate or running:
            self.active_at = self.now
        demand = make_demand(
            self.queued,
            running,
            active_at=self.active_at,
            oldest_wait_s=self.now - self.waiting[0] if self.waiting else 0.0,
            arrivals=self.arrivals,
            arrived_tokens=self.arrivals * 500,
            completed_tokens=(self.arrivals - self.queued) * 100,
        )
        decision = decide_scale(self.policy, self.replicas, demand, self.state, self.now)
        while len(self.ready_at) < decision.replicas:
            self.ready_at.append(self.now + self.policy.cold_start_s)
        del self.ready_at[decision.replicas :]
        self.replicas, self.state, self.decision = decision.replicas, decision.state, decision
        self.sizes.append(decision.replicas)
        self.reasons.add(decision.reason)


def test_a_burst_in_a_cold_start_does_not_grow_at_every_look() -> None:
    story = _Story().run([15] * 25)
    assert max(story.sizes) <= 12
    assert max(story.sizes[:8]) == max(story.sizes), "what is ordered late comes too late"
    story.run([15] * 20)
    assert story.queued == 0
    story.run([15] * 120)
    assert 2 <= story.replicas <= 4


def test_a_steady_load_is_not_answered_with_flapping() -> None:
    story = _Story().run([12] * 600)
    assert len(set(story.sizes[200:])) == 1


def test_oscillating_load_keeps_the_peak_through_short_troughs() -> None:
    story = _Story().run(([20] * 10 + [2] * 10) * 30)
    assert min(story.sizes[200:]) >= 2


def test_a_surplus_goes_after_a_cold_start_once_the_rate_is_known() -> None:
    story = _Story().run([30] * 60)
    high = story.replicas
    story.run([1] * 1900)
    assert story.replicas < high
    assert story.decision is not None


def test_a_queue_on_full_replicas_adds_one() -> None:
    story = _Story().run([5] * 100)
    sizes = []
    for oldest_wait_s in (1.0, 2.5):
        demand = make_demand(
            20, 32, active_at=story.now, arrivals=story.arrivals, oldest_wait_s=oldest_wait_s
        )
        sizes.append(decide_scale(FAST, 1, demand, story.state, story.now))
    assert [decision.replicas for decision in sizes] == [1, 2], "a clump is no stuck queue"
    assert sizes[1].reason == Reason.QUEUE_DEPTH


def test_more_arrivals_than_the_replicas_end_raise_the_number_before_a_queue_forms() -> None:
    story = _Story().run([5] * 100)
    assert story.replicas == 1
    reasons = set()
    for _ in range(20):
        story.run([14])
        assert story.decision is not None
        reasons.add(story.decision.reason)
    assert Reason.ARRIVAL_RATE in reasons
    assert story.replicas >= 2


def test_one_request_every_ten_minutes_is_expected_and_found_awake() -> None:
    story = _Story()
    for _ in range(12):
        story.run([1] + [0] * 599)
    story.run([1])
    assert story.queued == 0, "a replica was ready for it"
    story.run([0] * 300)
    assert story.replicas == 0
    assert story.decision is not None
    assert story.decision.wake_at is not None
    story.run([0] * 290)
    assert story.decision.reason == Reason.REQUEST_EXPECTED
    story.run([0] * 1000)
    assert (story.replicas, story.decision.reason) == (0, Reason.STEADY)
    assert story.decision.wake_at is None


def test_lonely_requests_hours_apart_are_not_waited_for() -> None:
    story = _Story()
    for gap in (4000, 9000, 5000, 12000, 7000, 3700, 15000):
        story.run([1] + [0] * 40).skip(gap)
    story.run([1] + [0] * 25)
    assert (story.replicas, story.queued) == (1, 0)
    story.run([0] * 75)
    assert story.replicas == 0
    assert story.decision is not None
    assert Reason.IDLE_COST in story.reasons


def _poisson(mean_s: float, count: int) -> tuple[float, float]:
    """Share of lonely requests that found a replica, and replica-seconds for each."""
    story, draw, found = _Story(), random.Random(1), 0
    for _ in range(count):
        found += story.run([1]).queued == 0
        story.run([0] * (1 + 30 * story.queued)).skip(1 + draw.expovariate(1 / mean_s))
    return found / count, story.spent_s / count


def test_waiting_holds_the_goal_where_it_can() -> None:
    found, spent_s = _poisson(60, 500)
    assert found > 0.93
    assert spent_s < 65


def test_requests_too_rare_to_be_spared_are_not_waited_for() -> None:
    found, spent_s = _poisson(5000, 60)
    assert found < 0.1
    assert spent_s < FAST.idle_timeout_s / 3
    assert spent_s > SHORTEST_AWAKE_S


def test_one_request_an_hour_is_expected_after_a_few() -> None:
    story, found = _Story(), []
    for _ in range(10):
        story.run([1])
        found.append(story.queued == 0)
        story.run([0] * 60).skip(1740)
        assert story.replicas == 0, "asleep in between"
        story.skip(1799)
    assert not any(found[:7])
    assert all(found[8:])
    assert Reason.REQUEST_EXPECTED in story.reasons


def test_a_day_is_followed_up_and_down() -> None:
    story, sizes = _Story(), []
    for quarter in range(48):
        rate = round(16 - 16 * math.cos(2 * math.pi * quarter / 48))
        story.run([rate] * 60)
        sizes.append(story.replicas)
    assert sizes[24] >= 3 > sizes[2]
    assert max(sizes) == max(sizes[20:30])
    assert story.run([0] * 700).replicas == 0


def test_demand_that_vanishes_holds_what_there_is_and_keeps_the_history() -> None:
    story = _Story().run([14] * 120)
    blind = decide_scale(FAST, story.replicas, ObservedDemand(), story.state, story.now + 60)
    assert (blind.replicas, blind.reason) == (story.replicas, Reason.DEMAND_UNKNOWN)
    assert blind.state.history == story.state.history


@pytest.mark.parametrize("jump_s", [-3600.0, 86400.0], ids=["an hour back", "a day on"])
def test_a_clock_that_jumps_while_requests_run_takes_nothing_away(jump_s: float) -> None:
    story = _Story().run([14] * 120)
    now = story.now + jump_s
    demand = make_demand(0, 20, active_at=now, arrivals=story.arrivals)
    decision = decide_scale(FAST, story.replicas, demand, story.state, now)
    assert decision.replicas == story.replicas


def test_a_restart_in_mid_load_goes_on_with_the_replicas_there_are() -> None:
    story = _Story().run([30] * 120)
    demand = make_demand(0, 40, active_at=story.now, arrivals=story.arrivals)
    decision = decide_scale(FAST, story.replicas, demand, ScaleState(), story.now)
    assert decision.replicas == story.replicas


def test_replicas_that_wait_for_a_gpu_are_not_ordered_again() -> None:
    story = _Story(Policy(idle_timeout_s=600, cold_start_s=25, max_replicas=40, model=FAST.model))
    story.run([5] * 25)
    story.ready_at = [1e9] * story.replicas
    before = story.replicas
    story.run([0] * 300)
    assert story.replicas <= before + 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 3))
def test_no_request_waits_for_ever_while_capacity_may_grow(rates: list[int], low: int) -> None:
    policy = Policy(
        min_replicas=low, idle_timeout_s=60, cold_start_s=5, max_replicas=60, model=FAST.model
    )
    story = _Story(policy).run(rates).run([0] * 200)
    assert story.queued == 0
    assert story.replicas == low
    assert all(low <= size <= 60 for size in story.sizes)
