"""The hold queue: order, bounds, deadlines, and that nobody is lost."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stoker_gateway.queue import Held, HoldQueue


def make_held(seq: int, num_bytes: int = 1, budget_s: float = 10) -> Held:
    return Held(seq, num_bytes, arrived_at=0, budget_s=budget_s)


def fill(queue: HoldQueue, *seqs: int) -> list[Held]:
    everyone = [make_held(seq) for seq in seqs]
    for held in everyone:
        queue.push(held, now=0)
    return everyone


def drain(queue: HoldQueue) -> list[int]:
    order = []
    while held := queue.pop(now=0):
        order.append(held.seq)
    return order


def test_first_come_is_first_served() -> None:
    queue = HoldQueue(10, 10)
    fill(queue, 1, 2, 3)
    assert drain(queue) == [1, 2, 3]


def test_an_empty_queue_gives_nobody() -> None:
    assert HoldQueue(1, 1).pop(now=0) is None


def test_those_put_back_stand_where_they_stood() -> None:
    queue = HoldQueue(10, 10)
    fill(queue, 1, 2, 3, 4)
    taken = [queue.pop(now=0) for _ in range(3)]
    for held in (taken[1], taken[0], taken[2]):
        assert held
        queue.put_back(held, now=0)
    assert drain(queue) == [1, 2, 3, 4]


def test_putting_back_ignores_the_bounds() -> None:
    queue = HoldQueue(1, 1)
    (first,) = fill(queue, 1)
    queue.pop(now=0)
    fill(queue, 2)
    queue.put_back(first, now=0)
    assert drain(queue) == [1, 2]


@pytest.mark.parametrize(
    ("count", "num_bytes", "more", "room"),
    [
        pytest.param(3, 100, 1, True, id="below both"),
        pytest.param(2, 100, 1, False, id="at the count"),
        pytest.param(3, 25, 5, True, id="up to the last byte"),
        pytest.param(3, 25, 6, False, id="one byte over"),
    ],
)
def test_is_bounded_by_count_and_bytes(count: int, num_bytes: int, more: int, room: bool) -> None:
    queue = HoldQueue(count, num_bytes)
    for seq in (1, 2):
        queue.push(make_held(seq, num_bytes=10), now=0)
    assert queue.has_room(more) is room


def test_leaving_frees_the_bytes_and_happens_once() -> None:
    queue = HoldQueue(10, 10)
    held, _ = fill(queue, 1, 2)
    assert queue.leave(held, now=0)
    assert not queue.leave(held, now=0)
    assert (len(queue), queue.num_bytes) == (1, 1)


def test_expires_exactly_those_whose_deadline_has_come() -> None:
    queue = HoldQueue(10, 10)
    short, long = make_held(1, budget_s=5), make_held(2, budget_s=6)
    queue.push(short, now=0)
    queue.push(long, now=0)
    assert queue.next_deadline == 5
    assert queue.expire(now=4.9) == []
    assert queue.expire(now=5) == [short]
    assert queue.next_deadline == 6


def test_a_second_wait_has_only_the_rest_of_the_budget() -> None:
    queue = HoldQueue(10, 10)
    held = make_held(1, budget_s=10)
    queue.push(held, now=0)
    queue.pop(now=4)
    queue.put_back(held, now=100)
    assert held.deadline == 106
    queue.pop(now=103)
    assert held.waited_s == 7


def test_oldest_wait_is_that_of_the_head() -> None:
    queue = HoldQueue(10, 10)
    assert queue.oldest_wait_s(now=9) == 0
    fill(queue, 1)
    assert queue.oldest_wait_s(now=9) == 9


def test_clearing_returns_everyone() -> None:
    queue = HoldQueue(10, 10)
    everyone = fill(queue, 1, 2, 3)
    assert queue.clear(now=0) == everyone
    assert (len(queue), queue.num_bytes) == (0, 0)


class QueueMachine(RuleBasedStateMachine):
    """Against a plain sorted list: whatever the order of events, the oldest comes out first."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = HoldQueue(1000, 10_000)
        self.inside: list[Held] = []
        self.outside: list[Held] = []
        self.seq = 0
        self.now = 0.0

    @rule(num_bytes=st.integers(0, 9), budget_s=st.integers(1, 30))
    def push(self, num_bytes: int, budget_s: int) -> None:
        self.seq += 1
        held = make_held(self.seq, num_bytes, budget_s)
        self.queue.push(held, self.now)
        self.inside.append(held)

    @rule()
    def pop(self) -> None:
        held = self.queue.pop(self.now)
        oldest = min(self.inside, key=lambda each: each.seq, default=None)
        assert held is oldest
        if held:
            self.inside.remove(held)
            self.outside.append(held)

    @precondition(lambda self: self.outside)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.outside))
        self.outside.remove(held)
        self.queue.put_back(held, self.now)
        self.inside.append(held)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.inside))
        assert self.queue.leave(held, self.now)
        self.inside.remove(held)

    @rule(seconds=st.integers(0, 10))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for held in self.queue.expire(self.now):
            assert held.deadline <= self.now or held.budget_s <= 0
            self.inside.remove(held)

    @invariant()
    def holds_exactly_those_inside(self) -> None:
        assert len(self.queue) == len(self.inside)
        assert self.queue.num_bytes == sum(held.num_bytes for held in self.inside)
        assert all(held in self.queue for held in self.inside)


TestQueueMachine = QueueMachine.TestCase
