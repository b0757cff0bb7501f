"""Sequences in the order in which they get their turn.

Knows ranks; does not know blocks or budgets. The scheduler has two: who runs, and who waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from stoker_runtime.schedule.sequence import Sequence

_NUM_CLASSES = 64
_PASSES_PER_CLASS = 8
_rank_of = attrgetter("rank")


def rank(priority: int, num_admissions: int, arrival: int) -> tuple[int, int]:
    """Where a sequence stands for good; lower goes first. `arrival` counts sequences.

    Each eight admissions that pass a waiting sequence by lift it by one class. All that wait are
    lifted alike, so it is enough to compare where they began: class 2 that came after 100
    admissions (2 · 8 + 100 = 116) goes before class 0 that came after 117. Classes beyond ±64
    count as ±64; so after 1024 admissions whoever comes later goes behind, whatever its class.
    """
    level = max(-_NUM_CLASSES, min(priority, _NUM_CLASSES))
    return level * _PASSES_PER_CLASS + num_admissions, arrival


class Line:
    """Sequences sorted by rank; ranks are unique and never change."""

    def __init__(self) -> None:
        self._seqs: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._seqs)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._seqs)

    @property
    def last(self) -> Sequence:
        """Whose turn comes last; there must be one."""
        return self._seqs[-1]

    def first(self, count: int) -> list[Sequence]:
        """The first `count`, as a list of its own."""
        return self._seqs[:count]

    def add(self, seq: Sequence) -> None:
        """Put it where its rank belongs."""
        insort(self._seqs, seq, key=_rank_of)

    def remove(self, seq: Sequence) -> None:
        """Take it out; it must be here."""
        index = bisect_left(self._seqs, seq.rank, key=_rank_of)
        assert self._seqs[index] is seq, f"{seq.id} is not in this line"
        del self._seqs[index]
