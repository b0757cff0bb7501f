"""One step of the engine, described completely and frozen.

Knows which tokens of which sequences are computed next and where their keys and values go; does not
know sampling or tensors. Made by the scheduler, read by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.schedule.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence: one when decoding, some or all of a prompt otherwise."""

    seq_id: str
    start: int
    """Position of the first of them; everything before is in the cache."""
    token_ids: tuple[int, ...]
    """A negative one, −1 − r, is not known yet: it is the r-th that the step before draws."""
    block_ids: tuple[int, ...]
    """The sequence's block table, with room for all of `end` tokens."""
    samples: bool
    """Its last token is the sequence's newest: a new one is to be drawn."""

    def slots(self, block_size: int) -> list[int]:
        """Where the keys and values of its tokens go: block · block_size + offset of each."""
        if len(self.token_ids) == 1:
            return [self.block_ids[self.start // block_size] * block_size + self.start % block_size]
        slots = list[int]()
        for index in range(self.start // block_size, -(-self.end // block_size)):
            shift = (self.block_ids[index] - index) * block_size
            first = max(self.start, index * block_size)
            last = min(self.end, (index + 1) * block_size)
            slots += range(shift + first, shift + last)
        return slots

    @property
    def end(self) -> int:
        """Tokens of the sequence that are in the cache afterwards."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward pass computes, at least one chunk; single tokens come first."""

    chunks: tuple[Chunk, ...]
    seqs: tuple[Sequence, ...] = ()
    """Whose chunks they are; ids are not enough, for one may be taken again before the step ends.
    """
    preempted: tuple[str, ...] = ()
    """Sequences that lost their blocks to others and start over later."""
    admitted: tuple[str, ...] = ()
    """Sequences that got their blocks now, for the first time or again."""

    @property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @property
    def drawing(self) -> list[Sequence]:
        """Who gets a token, in the order of the draws."""
        pairs = zip(self.chunks, self.seqs, strict=True)
        return [seq for chunk, seq in pairs if chunk.samples]

    @property
    def num_rows(self) -> int:
        """Sequences of which a single token is computed."""
        return sum(len(chunk.token_ids) == 1 for chunk in self.chunks)
