"""Chunks become plans; the logits themselves are compared in test_parity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.runner import Runner
from stoker_runtime.schedule.step import Chunk
from support.checkpoints import write_checkpoint
from support.engines import make_model


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(make_model(write_checkpoint(tmp_path)), num_blocks=64, block_size=4)


def decode(id: str, position: int, blocks: tuple[int, ...]) -> Chunk:
    return Chunk(id, position, (5,), blocks, samples=True)


def test_slots_follow_the_block_table(runner: Runner) -> None:
    plan = runner._plan([Chunk("a", 3, (1, 2, 3), (9, 2), samples=False), decode("b", 0, (7,))])
    assert plan.slots.tolist() == [9 * 4 + 3, 2 * 4, 2 * 4 + 1, 28]


def test_decodes_of_similar_length_are_grouped(runner: Runner) -> None:
    short = [decode("a", 3, (0,)), decode("b", 15, (1, 2, 3, 4))]
    long = decode("c", 100, tuple(range(10, 36)))
    plan = runner._plan([short[0], long, short[1]])
    groups = {group.num_seqs: group for group in plan.decodes}
    assert groups[2].block_ids.tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert groups[2].rows.tolist() == [0, 2]  # type: ignore[union-attr]
    assert groups[1].rows == slice(1, 2)
    assert groups[2].masks[0].shape == (2, 1, 1, 16)
    assert (groups[2].masks[0] == 0).sum(-1).flatten().tolist() == [4, 16]


def test_only_sampling_chunks_get_logits(runner: Runner) -> None:
    chunks = [
        decode("a", 0, (0,)),
        Chunk("b", 0, (1, 2, 3), (1,), samples=False),
        Chunk("c", 0, (1, 2), (2,), samples=True),
    ]
    assert runner.run(chunks).shape == (2, 320)
    assert runner.run(chunks[1:2]).shape == (0, 320)


def test_blocks_given_in_advance_are_not_read(runner: Runner) -> None:
    plan = runner._plan([decode("a", 3, (5, 6, 7))])
    assert plan.decodes[0].block_ids.tolist() == [5]


def test_garbage_beyond_a_sequence_does_not_matter(runner: Runner) -> None:
    prompt = Chunk("a", 0, (5, 6, 7), (3, 4), samples=True)
    clean = [runner.run([prompt]), runner.run([decode("a", 3, (3, 4))])]
    runner.caches.data.fill_(100.0)
    again = [runner.run([prompt]), runner.run([decode("a", 3, (3, 4))])]
    assert all(torch.equal(one, two) for one, two in zip(clean, again, strict=True))


def test_the_cache_starts_as_zeros(runner: Runner) -> None:
    assert runner.caches.data.shape == (2, 2, 64, 4, 2, 16)
    assert not runner.caches.data.any()


def test_any_rows_can_be_scored(runner: Runner) -> None:
    chunk = Chunk("a", 0, (5, 6, 7), (3,), samples=True)
    hidden = runner.compute([chunk])
    assert hidden.shape == (3, 64)
    torch.testing.assert_close(runner.score(hidden[2:]), runner.run([chunk]))


def test_cleared_blocks_are_zero_again(runner: Runner) -> None:
    runner.caches.data.fill_(float("nan"))
    runner.clear([3, 5])
    assert not runner.caches.data[:, :, [3, 5]].any()
    assert runner.caches.data[:, :, [2, 4]].isnan().all()
