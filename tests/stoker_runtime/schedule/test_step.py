"""A step adds up."""

from __future__ import annotations

import dataclasses

import pytest

from stoker_runtime.schedule.step import Chunk, Step


def test_adds_up_its_tokens() -> None:
    chunks = (Chunk("a", 7, (3,), (0,), True), Chunk("b", 0, (1, 2, 3), (1,), False))
    assert Step(chunks).num_tokens == 4
    assert [chunk.end for chunk in chunks] == [8, 3]


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Step(()).chunks = ()  # type: ignore[misc]
