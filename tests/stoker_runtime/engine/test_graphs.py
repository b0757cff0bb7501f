"""Decodes go through recordings and are filled up to their sizes, and nobody's answer changes.

What is recorded here is a call of the same function: a CPU has no graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stoker_runtime.engine import assembly
from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels.gpu import ops as gpu_ops
from stoker_runtime.schedule.step import Chunk
from support.engines import make_model
from support.families import write_family

PROMPTS = (
    Chunk("a", 0, (5, 9, 11), (3,), True),
    Chunk("b", 0, (40, 41), (1,), True),
    Chunk("c", 0, (7, 8, 9), (6,), True),
)
DECODES = (
    Chunk("a", 3, (12,), (3,), True),
    Chunk("b", 2, (42,), (1,), True),
    Chunk("c", 3, (10,), (6,), True),
)
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 80,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "num_hidden_layers": 1,
}
"""That kernels are compiled for."""
LATER = (Chunk("c", 4, (60,), (6, 2), True), Chunk("b", 3, (61,), (1,), True))


class Recorder:
    """Computes again what it was given, into the same place."""

    def __init__(self) -> None:
        self.num_replays = 0

    def __call__(
        self, compute: Callable[[], torch.Tensor]
    ) -> tuple[Callable[[], None], torch.Tensor]:
        out = compute()

        def replay() -> None:
            self.num_replays += 1
            out.copy_(compute())

        return replay, out


def make_runner(folder: Path) -> Runner:
    return Runner(make_model(folder), num_blocks=8, block_size=4, max_num_seqs=3)


@pytest.mark.parametrize("family", ["qwen3", "qwen2-moe"])
def test_recordings_answer_as_steps_do(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, family, **SIZES)
    plain = make_runner(tmp_path)
    expected = [plain.run(step) for step in (PROMPTS, DECODES, LATER)]
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    monkeypatch.setattr(assembly, "_packs", lambda _: False)  # as on a GPU
    runner, recorder = make_runner(tmp_path), Recorder()
    graphs = runner.graphs
    assert graphs is not None
    made = [runner.run(PROMPTS)]
    with torch.inference_mode():
        graphs.record(recorder)
    assert (graphs.find(1), graphs.find(3), graphs.find(5)) == (4, 4, 0)
    made.append(runner.run(DECODES))
    with torch.inference_mode():
        graphs.record(recorder)
    assert (graphs.find(1), graphs.find(2), graphs.find(3)) == (2, 2, 4)
    made.append(runner.run(LATER))
    assert recorder.num_replays == 2
    for one, scores in zip(made, expected, strict=True):
        torch.testing.assert_close(one, scores, atol=1e-4, rtol=1e-4)


def test_experts_that_are_called_one_by_one_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "qwen2-moe", **SIZES)
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    monkeypatch.setattr(gpu_ops, "group_experts", lambda *_: None)
    assert make_runner(tmp_path).graphs is None


def test_the_largest_is_recorded_first_until_none_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "qwen3", hidden_size=64, intermediate_size=80, num_hidden_layers=1)
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    runner, found = make_runner(tmp_path), []
    graphs = runner.graphs
    assert graphs is not None
    while graphs.are_missing:
        graphs.record(lambda compute: (lambda: None, torch.empty(0)))
        found.append(graphs.find(1))
    assert found == [4, 2, 1]
    assert not runner.can_prepare
