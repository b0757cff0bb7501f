"""The chunks of a step one behind the other: which rows, slots and blocks are whose.

Knows chunks as numbers; does not know layers or sequences. Used by whoever turns a step into
tensors.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import torch

from stoker_runtime.schedule.step import Chunk


def spans(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    """First and last + 1 row of each chunk in the step."""
    spans, start = [], 0
    for chunk in chunks:
        spans.append((start, start + len(chunk.token_ids)))
        start = spans[-1][1]
    return spans


def find_slots(
    chunks: Sequence[Chunk], block_size: int, device: torch.device
) -> torch.Tensor:  # [num_tokens] int64
    """Where the keys and values of all tokens go."""
    return join((chunk.slots(block_size) for chunk in chunks), device)


def find_table(chunk: Chunk, block_size: int) -> tuple[int, ...]:
    """The blocks that its tokens attend to."""
    return chunk.block_ids[: -(-chunk.end // block_size)]


def join(parts: Iterable[Iterable[int]], device: torch.device) -> torch.Tensor:  # [length] int64
    """One after the other, without Python's numbers in a list between."""
    joined = array("q")
    for part in parts:
        joined.extend(part)
    return torch.frombuffer(joined, dtype=torch.int64).to(device)
