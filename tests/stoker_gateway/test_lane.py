"""One deployment at one worker: nobody is lost, nobody is served twice, no slot is given twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker_gateway.errors import ApiError, bad_request
from stoker_gateway.lane import Bounds, Lane
from stoker_gateway.queue import Held
from stoker_gateway.routing import Pod
from stoker_gateway.target import Target

TARGET = Target("default", "chat", "chat", hold_s=60, cold_start_s=8)


def make_lane(max_queued: int = 10, target: Target = TARGET) -> Lane:
    return Lane(target, Bounds(max_queued, 1000), now=0)


def add_pod(lane: Lane, name: str = "a", slots: int = 1) -> Pod:
    pod = lane.routes.add(name, now=0)
    pod.address, pod.slots, pod.ready = f"{name}:8000", slots, True
    return pod


def error_of(held: Held) -> ApiError:
    assert held.error
    return held.error


def test_a_free_slot_is_taken_at_once() -> None:
    lane = make_lane()
    pod = add_pod(lane)
    held = lane.enter(5, now=1)
    assert held.pod is pod
    assert not held.cold
    assert (lane.running, len(lane.queue)) == (1, 0)


def test_waits_when_nothing_is_ready_and_is_woken_by_the_first_pod() -> None:
    lane = make_lane()
    held = lane.enter(5, now=1)
    woken: list[bool] = []
    held.wake = lambda: woken.append(True)
    assert held.pod is None
    assert held.cold
    pod = add_pod(lane)
    assert lane.release(now=3) == [held]
    assert (held.pod, woken, held.waited_s) == (pod, [True], 2)


def test_releases_at_most_the_free_slots_in_order_of_arrival() -> None:
    lane = make_lane()
    everyone = [lane.enter(1, now=0) for _ in range(5)]
    add_pod(lane, "a", slots=2)
    add_pod(lane, "b", slots=1)
    assert lane.release(now=1) == everyone[:3]
    assert lane.release(now=1) == []


def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    lane = make_lane()
    first = lane.enter(1, now=0)
    add_pod(lane, slots=1)
    second = lane.enter(1, now=0)
    assert second.pod is None
    assert lane.release(now=0) == [first]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    lane = make_lane(max_queued=1)
    lane.enter(1, now=0)
    with pytest.raises(ApiError) as refused:
        lane.enter(1, now=3)
    assert (refused.value.status, refused.value.code) == (429, "queue_full")
    assert refused.value.headers == [(b"retry-after", b"5")]
    assert lane.arrivals == 2


def test_a_request_put_back_is_released_first() -> None:
    lane = make_lane()
    pod = add_pod(lane, slots=1)
    first = lane.enter(1, now=0)
    second = lane.enter(1, now=0)
    pod.ready = False
    lane.put_back(first, now=1)
    assert lane.running == 0
    add_pod(lane, "b", slots=1)
    assert lane.release(now=2) == [first]
    assert second.pod is None


def test_leaving_frees_the_slot_or_the_place() -> None:
    lane = make_lane()
    add_pod(lane, slots=1)
    running, waiting = lane.enter(1, now=0), lane.enter(1, now=0)
    lane.leave(waiting, now=1)
    lane.leave(running, now=2)
    assert (lane.running, len(lane.queue), lane.busy) == (0, 0, False)
    assert lane.routes.num_free(now=2) == 1
    assert lane.idle_s(now=5) == 3


def test_a_busy_lane_is_not_idle() -> None:
    lane = make_lane()
    lane.enter(1, now=0)
    assert lane.idle_s(now=100) == 0


def test_a_wait_without_pods_ends_with_the_cause_and_a_retry_time() -> None:
    target = Target("default", "chat", "chat", hold_s=60, cause="No node has a GPU (Unschedulable)")
    lane = make_lane(target=target)
    held = lane.enter(1, now=0)
    assert lane.expire(now=59.9) == []
    assert lane.expire(now=60) == [held]
    error = error_of(held)
    assert (error.status, error.code) == (503, "model_not_ready")
    assert "within 60 s. No node has a GPU (Unschedulable)" in str(error)
    assert error.headers[0][0] == b"retry-after"


def test_a_wait_for_busy_pods_ends_as_overloaded() -> None:
    lane = make_lane()
    add_pod(lane, slots=1)
    lane.enter(1, now=0)
    held = lane.enter(1, now=0)
    lane.expire(now=60)
    assert error_of(held).code == "overloaded"


def test_certain_failure_ends_all_waits_and_refuses_newcomers() -> None:
    lane = make_lane()
    held = lane.enter(1, now=0)
    lane.routes.add("a", now=0).failure = ("CheckpointBroken", "model.safetensors is cut short")
    assert lane.fail_hopeless(now=1) == [held]
    assert error_of(held).code == "model_unavailable"
    assert "model.safetensors is cut short (CheckpointBroken)" in str(held.error)
    with pytest.raises(ApiError, match="cut short"):
        lane.enter(1, now=2)


def test_a_failed_pod_harms_nobody_while_another_serves() -> None:
    lane = make_lane()
    lane.routes.add("a", now=0).failure = ("CheckpointBroken", "cut short")
    add_pod(lane, "b", slots=1)
    lane.enter(1, now=0)
    waiting = lane.enter(1, now=0)
    assert lane.fail_hopeless(now=1) == []
    assert waiting.error is None


def test_doom_ends_the_present_waits_only() -> None:
    lane = make_lane()
    held = lane.enter(1, now=0)
    assert lane.fail_hopeless(now=1, doom="The claim is missing (ClaimNotFound)") == [held]
    assert lane.enter(1, now=2).error is None


def test_what_a_pod_said_is_the_cause_when_the_status_has_none() -> None:
    lane = make_lane()
    lane.routes.add("a", now=0).failure = ("EngineCrashed", "signal 9")
    held = lane.enter(1, now=0)
    lane.expire(now=60)
    assert "EngineCrashed: signal 9" in str(held.error)


@pytest.mark.parametrize(
    ("now", "retry_s"),
    [
        pytest.param(3, 5, id="the rest of a wake of 8 s"),
        pytest.param(12, 6, id="half as much again when it is late"),
    ],
)
def test_retry_after_follows_the_measured_cold_start(now: float, retry_s: float) -> None:
    lane = make_lane()
    lane.enter(1, now=0)
    assert lane.retry_after_s(now) == retry_s


def test_retry_after_is_when_three_of_four_such_wakes_were_over() -> None:
    lane = make_lane(target=replace(TARGET, wakes_s=((4.0, 5.0, 8.0, 12.0),)))
    lane.enter(1, now=0)
    assert lane.retry_after_s(now=0) == 9
    assert lane.retry_after_s(now=6) == 5


def test_a_wake_goes_on_when_its_clients_have_given_up() -> None:
    lane = make_lane()
    held = lane.enter(1, now=0)
    lane.routes.add("a", now=0.5)
    lane.leave(held, now=2)
    assert lane.retry_after_s(now=4.5) == 4


@pytest.mark.parametrize(
    "facts",
    [{"leaving": True}, {"failure": ("EngineCrashed", "")}, {"slots": 4}],
    ids=["leaves", "failed", "has served"],
)
def test_only_a_pod_on_its_way_tells_when_a_wake_began(facts: dict[str, Any]) -> None:
    lane = make_lane()
    pod = lane.routes.add("a", now=0)
    for name, value in facts.items():
        setattr(pod, name, value)
    assert lane.retry_after_s(now=5) == 8


def test_retry_after_is_short_when_pods_are_ready() -> None:
    lane = make_lane()
    add_pod(lane)
    assert lane.retry_after_s(now=5) == 1


class LaneMachine(RuleBasedStateMachine):
    """Random lives: requests come and go, pods appear, refuse, fill up, leave and die."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = make_lane(max_queued=5)
        self.alive: set[Held] = set()
        self.ended: set[Held] = set()
        self.now = 0.0
        self.num_pods = 0

    def check_released(self, released: list[Held]) -> None:
        seqs = [held.seq for held in released]
        assert seqs == sorted(seqs)
        assert all(held in self.alive and held.pod for held in released)

    @rule(num_bytes=st.integers(0, 400))
    def come(self, num_bytes: int) -> None:
        if len(self.lane.queue) and not self.lane.queue.has_room(num_bytes):
            with pytest.raises(ApiError, match="Too many requests"):
                self.lane.enter(num_bytes, self.now)
        else:
            self.alive.add(self.lane.enter(num_bytes, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(sorted(self.alive, key=lambda each: each.seq)))
        self.lane.leave(held, self.now)
        self.alive.remove(held)
        self.ended.add(held)
        self.check_released(self.lane.release(self.now))

    @precondition(lambda self: any(held.pod for held in self.alive))
    @rule(data=st.data(), full=st.booleans())
    def refuse(self, data: st.DataObject, full: bool) -> None:
        running = sorted((h for h in self.alive if h.pod), key=lambda each: each.seq)
        held = data.draw(st.sampled_from(running))
        pod = held.pod
        assert pod
        self.lane.put_back(held, self.now)
        if full:
            self.lane.routes.full(pod, self.now)
        else:
            pod.ready = False
        self.check_released(self.lane.release(self.now))

    @rule(slots=st.integers(1, 3))
    def pod_comes(self, slots: int) -> None:
        self.num_pods += 1
        add_pod(self.lane, f"pod-{self.num_pods}", slots)
        self.check_released(self.lane.release(self.now))

    @precondition(lambda self: any(self.lane.routes))
    @rule(data=st.data(), gone=st.booleans())
    def pod_leaves(self, data: st.DataObject, gone: bool) -> None:
        pod = data.draw(st.sampled_from(list(self.lane.routes)))
        pod.leaving = True
        if gone:
            self.lane.routes.remove(pod.name)

    @rule(seconds=st.sampled_from([0.01, 1, 30]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for held in self.lane.expire(self.now):
            assert held.error
            self.lane.leave(held, self.now)
            self.alive.remove(held)
            self.ended.add(held)
        self.check_released(self.lane.release(self.now))

    @invariant()
    def nobody_is_lost_or_in_two_places(self) -> None:
        for held in self.alive:
            assert (held.pod is not None) != (held in self.lane.queue)
        assert not any(held.pod or held in self.lane.queue for held in self.ended)
        assert self.lane.running == sum(held.pod is not None for held in self.alive)
        assert len(self.lane.queue) + self.lane.running == len(self.alive)

    @invariant()
    def no_pod_runs_more_than_its_slots(self) -> None:
        for pod in self.lane.routes:
            assert pod.running == sum(held.pod is pod for held in self.alive)
            assert pod.running <= pod.slots

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        waiting = len(self.lane.queue)
        assert not (waiting and self.lane.routes.num_free(self.now))


TestLaneMachine = LaneMachine.TestCase


def test_all_waits_can_be_ended_with_one_error() -> None:
    lane = make_lane()
    everyone = [lane.enter(1, now=0) for _ in range(3)]
    error = bad_request("gone", "gone")
    assert lane.fail_waiting(error, now=1) == everyone
    assert all(held.error is error for held in everyone)
