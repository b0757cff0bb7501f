"""The queue of keys: one task a key, none waits for another, failures come back later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from stoker_operator.errors import ClusterError, LeaseLost
from stoker_operator.handlers import workqueue
from stoker_operator.handlers.workqueue import LIMIT, WorkQueue


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(workqueue, "MIN_BACKOFF_S", 0.01)
    monkeypatch.setattr(workqueue, "STOP_S", 0.05)


async def _until(check: Callable[[], bool]) -> None:
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.004)
    raise AssertionError("not in time")


class Work:
    """Reconciles by noting keys; each key may be blocked or told what to do next."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.running = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.answers: list[float | Exception | None] = []

    async def __call__(self, key: str) -> float | None:
        self.seen.append(key)
        self.running += 1
        gate = self.gates.get(key)
        if gate is not None:
            await gate.wait()
        self.running -= 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_key_added_often_while_it_is_worked_on_is_worked_on_once_more() -> None:
    work = Work()
    gate = work.gates["a"] = asyncio.Event()
    queue = WorkQueue(work)
    for _ in range(5):
        queue.add("a")
    await asyncio.sleep(0.01)
    assert work.seen == ["a"]
    for _ in range(5):
        queue.add("a")
    gate.set()
    await queue.drain()
    assert work.seen == ["a", "a"]


async def test_different_keys_never_wait_for_each_other() -> None:
    work = Work()
    work.gates["slow"] = asyncio.Event()
    queue = WorkQueue(work)
    queue.add("slow")
    queue.add("quick")
    await _until(lambda: work.seen == ["slow", "quick"] and work.running == 1)
    await queue.stop()


async def test_comes_back_at_the_instant_that_was_asked_for() -> None:
    work = Work()
    work.answers = [100.05, None]
    loop = asyncio.get_running_loop()
    began = loop.time()
    queue = WorkQueue(work, clock=lambda: 100 + loop.time() - began)
    queue.add("a")
    await _until(lambda: work.seen == ["a", "a"])
    assert loop.time() - began >= 0.05
    await queue.stop()


async def test_a_change_comes_before_the_instant_that_was_asked_for() -> None:
    work = Work()
    work.answers = [10**10, None]
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: len(work.seen) == 1)
    queue.add("a")
    await _until(lambda: len(work.seen) == 2)
    await queue.stop()


@pytest.mark.parametrize("error", [ClusterError("500"), ValueError("a bug")], ids=repr)
async def test_a_failure_is_tried_again_and_events_do_not_hurry_it(error: Exception) -> None:
    work = Work()
    work.answers = [error, error, None]
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: len(work.seen) == 1)
    queue.add("a")
    assert work.running == 0
    await _until(lambda: len(work.seen) >= 3)
    await queue.stop()


async def test_a_server_that_asks_for_patience_is_left_alone_for_so_long() -> None:
    work, loop = Work(), asyncio.get_running_loop()
    work.answers = [ClusterError("429", 429, retry_after_s=0.15), None]
    queue, began = WorkQueue(work), loop.time()
    queue.add("a")
    await _until(lambda: len(work.seen) == 2)
    assert loop.time() - began >= 0.15
    await queue.stop()


async def test_no_server_keeps_a_key_waiting_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "MAX_BACKOFF_S", 0.02)
    work = Work()
    work.answers = [ClusterError("429", 429, retry_after_s=3600), None]
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: len(work.seen) == 2)
    await queue.stop()


async def test_after_a_success_a_key_is_taken_at_once_again() -> None:
    work = Work()
    work.answers = [ClusterError("500"), None]
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: len(work.seen) == 2)
    await queue.drain()
    queue.add("a")
    await asyncio.sleep(0)
    assert len(work.seen) == 3
    await queue.stop()


async def test_a_lost_lease_is_no_failure_and_not_tried_again() -> None:
    work = Work()
    work.answers = [LeaseLost("x")]
    queue = WorkQueue(work)
    queue.add("a")
    await queue.drain()
    await asyncio.sleep(0.03)
    assert work.seen == ["a"]
    queue.add("a")
    await queue.drain()
    assert work.seen == ["a", "a"]


async def test_after_stop_nothing_begins() -> None:
    work = Work()
    work.gates["a"] = asyncio.Event()
    work.answers = [10**10]
    queue = WorkQueue(work)
    queue.add("a")
    queue.add("later")
    await _until(lambda: len(work.seen) == 2)
    await queue.stop()
    queue.add("b")
    await asyncio.sleep(0.01)
    assert work.seen == ["a", "later"]


async def test_a_look_that_has_begun_ends_before_all_does() -> None:
    work = Work()
    gate = work.gates["a"] = asyncio.Event()
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: work.running == 1)
    queue.add("a")
    stopping = asyncio.create_task(queue.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert (work.running, work.seen) == (0, ["a"]), "it ended by itself, and is not begun again"


async def test_a_look_that_hangs_is_given_up_in_the_end() -> None:
    work = Work()
    work.gates["a"] = asyncio.Event()
    queue = WorkQueue(work)
    queue.add("a")
    await _until(lambda: work.running == 1)
    await queue.stop()
    assert work.running == 1, "it never came to its end"


async def test_many_keys_share_the_places_and_whoever_is_in_a_hurry_waits_for_none() -> None:
    work = Work()
    keys = [f"k{number:02}" for number in range(3 * LIMIT)]
    gate = asyncio.Event()
    work.gates = dict.fromkeys([*keys, "wake"], gate)
    queue = WorkQueue(work)
    for key in keys:
        queue.add(key)
    await asyncio.sleep(0.01)
    assert work.seen == keys[:LIMIT]
    queue.hurry("wake")
    queue.hurry(keys[-1])
    await asyncio.sleep(0.01)
    assert work.seen[LIMIT:] == ["wake", keys[-1]]
    gate.set()
    await queue.drain()
    assert sorted(work.seen) == sorted([*keys, "wake"]), "each once"
    assert work.seen[LIMIT + 2 :] == keys[LIMIT:-1], "first come, first served"


async def test_who_waits_for_a_place_when_all_ends_is_not_begun() -> None:
    work = Work()
    gate = asyncio.Event()
    work.gates = {f"k{number}": gate for number in range(LIMIT + 1)}
    queue = WorkQueue(work)
    for key in work.gates:
        queue.add(key)
    await asyncio.sleep(0.01)
    await queue.stop()
    assert len(work.seen) == LIMIT
