"""Which part of a model a process computes, when several of them compute one model together.

Knows ranks as numbers; does not know models, tensors or processes. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """One of `ranks` even parts; by default all of the model."""

    rank: int = 0
    """0 leads: it schedules, draws and answers."""
    ranks: int = 1

    @property
    def is_whole(self) -> bool:
        """There is nobody to share with."""
        return self.ranks == 1

    @property
    def leads(self) -> bool:
        """What is added once only, a bias, is added here."""
        return self.rank == 0

    def cut(self, total: int) -> range:
        """This share of so many, none more than one longer than another: 5 in two are 2 and 3."""
        return self.of(self.rank, total)

    def of(self, rank: int, total: int) -> range:
        """The share of another rank."""
        return range(total * rank // self.ranks, total * (rank + 1) // self.ranks)


WHOLE = Share()
