"""A step adds up."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.schedule.step import Chunk, Step
from support.hash_model import make_scheduler, make_sequence, step_shape


def test_adds_up_its_tokens() -> None:
    chunks = (Chunk("a", 7, (3,), (0,), True), Chunk("b", 0, (1, 2, 3), (1,), False))
    assert Step(chunks).num_tokens == 4
    assert [chunk.end for chunk in chunks] == [8, 3]


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Step(()).chunks = ()  # type: ignore[misc]


@given(start=st.integers(0, 40), num_tokens=st.integers(1, 30), size=st.integers(1, 9))
def test_slots_follow_the_table_token_by_token(start: int, num_tokens: int, size: int) -> None:
    table = tuple((7 * index + 3) % 100 for index in range(80))
    chunk = Chunk("a", start, (5,) * num_tokens, table, samples=True)
    expected = [table[p // size] * size + p % size for p in range(start, start + num_tokens)]
    assert chunk.slots(size) == expected


def test_a_step_behind_one_under_way_refers_to_what_that_draws() -> None:
    scheduler = make_scheduler()
    for id, length in [("a", 3), ("b", 4)]:
        scheduler.add(make_sequence(id, length))
    first = scheduler.schedule()
    assert first is not None
    scheduler.advance(first)
    second = scheduler.schedule(ahead=True)
    assert second is not None
    assert [chunk.token_ids for chunk in second.chunks] == [(-1,), (-2,)]
    assert step_shape(second) == [("a", 3, 4), ("b", 4, 5)]
    assert [seq.output_ids for seq in scheduler.commit(first, {"a": 1, "b": 2})] == [[1], [2]]
