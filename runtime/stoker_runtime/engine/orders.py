"""What the leader of several ranks tells the others, and what they answer.

Knows the messages; does not know sockets, processes or what is done with them. Each order is a call
of the leader's own tenancy or runner, which every other rank repeats on its share of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Failed, Inbox, Load, Sleep, Unload, Wake


class WarmUp(msgspec.Struct, tag="warmUp", frozen=True):
    """Import what an engine needs."""


class Agreed(msgspec.Struct, tag="agreed", frozen=True):
    """The answer to all proposals: every rank's cache has so many blocks."""

    num_blocks: int
    meeting: str
    """The file at which ranks find each other."""


class Compute(msgspec.Struct, tag="compute", frozen=True):
    """Run the layers over chunks."""

    chunks: Sequence[Chunk]
    num_known: list[int] = []
    """On the way, how many blocks of each chunk are left out: those of the step before."""


class Score(msgspec.Struct, tag="score", frozen=True):
    """Score so many rows of hidden states, which the leader has."""

    num_rows: int


class Clear(msgspec.Struct, tag="clear", frozen=True):
    """Forget what blocks hold."""

    block_ids: list[int]


class Proposed(msgspec.Struct, tag="proposed", frozen=True):
    """A follower has its weights and room for so many blocks."""

    num_blocks: int


Work = Compute | Score | Clear
"""What the leader's runner does."""
Order = WarmUp | Load | Wake | Agreed | Sleep | Unload | Work
Reply = Proposed | Failed
"""One to each `Load` and `Wake`; a `Failed` at any other time is a rank's last word."""


class Orders(Inbox[Order]):
    """The follower's side."""

    def __init__(self) -> None:
        super().__init__(msgspec.msgpack.Decoder(Order))


class Replies(Inbox[Reply]):
    """The leader's side."""

    def __init__(self) -> None:
        super().__init__(msgspec.msgpack.Decoder(Reply))


class Tables:
    """Block tables of the last step, so that of each only what is new is sent.

    Both ends have one. 256 sequences of 4096 tokens have 65 536 blocks, of which 16 are new.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, ...]] = {}

    def shorten(self, chunks: Sequence[Chunk]) -> Compute:
        """The order to compute chunks."""
        num_known = [self._count_known(chunk) for chunk in chunks]
        self._remember(chunks)
        pairs = zip(chunks, num_known, strict=True)
        short = [replace(chunk, block_ids=chunk.block_ids[known:]) for chunk, known in pairs]
        return Compute(short, num_known)

    def restore(self, order: Compute) -> list[Chunk]:
        """The chunks of an order."""
        chunks = [
            replace(chunk, block_ids=self._last.get(chunk.seq_id, ())[:known] + chunk.block_ids)
            for chunk, known in zip(order.chunks, order.num_known, strict=True)
        ]
        self._remember(chunks)
        return chunks

    def _count_known(self, chunk: Chunk) -> int:
        last = self._last.get(chunk.seq_id, ())
        return len(last) if chunk.block_ids[: len(last)] == last else 0

    def _remember(self, chunks: Sequence[Chunk]) -> None:
        self._last = {chunk.seq_id: chunk.block_ids for chunk in chunks}
