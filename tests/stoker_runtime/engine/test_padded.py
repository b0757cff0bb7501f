"""Chunks become plans of attention by torch; what comes of them is compared in `model`."""

from __future__ import annotations

import torch

from stoker_runtime.engine.padded import Padding
from stoker_runtime.schedule.step import Chunk

PADDING = Padding(4, (0,), torch.float32, torch.device("cpu"))


def decode(id: str, position: int, blocks: tuple[int, ...]) -> Chunk:
    return Chunk(id, position, (5,), blocks, samples=True)


def test_slots_follow_the_block_table() -> None:
    plan = PADDING.plan([Chunk("a", 3, (1, 2, 3), (9, 2), samples=False), decode("b", 0, (7,))])
    assert plan.slots.tolist() == [9 * 4 + 3, 2 * 4, 2 * 4 + 1, 28]


def test_decodes_of_similar_length_are_grouped() -> None:
    short = [decode("a", 3, (0,)), decode("b", 15, (1, 2, 3, 4))]
    long = decode("c", 100, tuple(range(10, 36)))
    plan = PADDING.plan([short[0], long, short[1]])
    groups = {group.num_seqs: group for group in plan.decodes}
    assert groups[2].block_ids.tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert groups[2].rows.tolist() == [0, 2]  # type: ignore[union-attr]
    assert groups[1].rows == slice(1, 2)
    assert groups[2].masks[0].shape == (2, 1, 1, 16)
    assert (groups[2].masks[0] == 0).sum(-1).flatten().tolist() == [4, 16]


def test_blocks_given_in_advance_are_not_read() -> None:
    plan = PADDING.plan([decode("a", 3, (5, 6, 7))])
    assert plan.decodes[0].block_ids.tolist() == [5]
