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


def test_only_sampling_chunks_get_logits(runner: Runner) -> None:
    chunks = [
        decode("a", 0, (0,)),
        Chunk("b", 0, (1, 2, 3), (1,), samples=False),
        Chunk("c", 0, (1, 2), (2,), samples=True),
    ]
    assert runner.run(chunks).shape == (2, 320)
    assert runner.run(chunks[1:2]).shape == (0, 320)


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
