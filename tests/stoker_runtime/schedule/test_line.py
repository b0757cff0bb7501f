"""Whose turn comes when, and that it comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_runtime.schedule.line import Line, rank
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from support.hash_model import HashModel, make_scheduler, make_sequence


def make_ranked(arrival: int, priority: int = 0, num_admissions: int = 0) -> Sequence:
    seq = Sequence(f"s{arrival}", (1,), SamplingParams(max_tokens=1))
    seq.rank = rank(priority, num_admissions, arrival)
    return seq


def test_equals_keep_the_order_of_arrival() -> None:
    assert rank(0, 0, 1) < rank(0, 0, 2) < rank(0, 1, 3)


def test_lower_priorities_go_first() -> None:
    assert rank(-1, 0, 2) < rank(0, 0, 1) < rank(1, 0, 0)


@pytest.mark.parametrize(("passed", "first"), [(7, "new"), (8, "old"), (9, "old")])
def test_eight_admissions_lift_by_a_class(passed: int, first: str) -> None:
    old, new = rank(1, 100, 1), rank(0, 100 + passed, 2)
    assert min((old, "old"), (new, "new"))[1] == first


def test_no_class_is_worse_than_the_worst() -> None:
    assert rank(10**12, 0, 1) < rank(-(10**12), 1025, 2)


@given(ranks=st.lists(st.tuples(st.integers(-99, 99), st.integers(0, 3000)), max_size=30))
def test_a_line_is_always_sorted(ranks: list[tuple[int, int]]) -> None:
    line = Line()
    seqs = [make_ranked(i, *given) for i, given in enumerate(ranks)]
    for seq in seqs:
        line.add(seq)
    assert list(line) == sorted(seqs, key=lambda seq: seq.rank)
    assert line.first(3) == list(line)[:3]
    for seq in seqs[::2]:
        line.remove(seq)
    assert list(line) == sorted(seqs[1::2], key=lambda seq: seq.rank)
    assert len(line) == len(seqs[1::2])
    assert not seqs[1::2] or line.last is list(line)[-1]


def test_nobody_is_taken_out_twice() -> None:
    line = Line()
    line.add(make_ranked(1))
    with pytest.raises(AssertionError, match="not in this line"):
        line.remove(make_ranked(0))


@settings(max_examples=15, deadline=None)
@given(
    priority=st.integers(-12, 12),
    flood=st.lists(st.integers(-12, 12), min_size=1, max_size=4),
    caching=st.booleans(),
)
def test_everybody_gets_a_turn_under_any_flood(
    priority: int, flood: list[int], caching: bool
) -> None:
    """Passed by at most eight times per class that others are better by, and by who was there."""
    model = HashModel(make_scheduler(caching=caching, max_num_seqs=2))
    model.scheduler.add(make_sequence("patient", 3, max_tokens=1, priority=priority))
    arrived = 0
    while "patient" not in model.done:
        while model.scheduler.num_waiting < 4:
            better = flood[arrived % len(flood)]
            model.scheduler.add(make_sequence(f"x{arrived}", 6, max_tokens=1, priority=better))
            arrived += 1
        model.advance()
    assert len(model.done) <= 8 * max(0, priority - min(flood)) + 8
    assert min(flood) < priority or len(model.done) <= 2
    assert model.scheduler.num_running <= 2
