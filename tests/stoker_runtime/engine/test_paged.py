"""Steps become tensors for kernels, and the whole engine computes with these as with torch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stoker_runtime.engine import assembly
from stoker_runtime.engine.paged import Batch, Pages, PageSizes, fits_kernels
from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels.cache import LIMITS
from stoker_runtime.kernels.gpu import ops as gpu_ops
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Generate
from support.engines import make_engine, make_model, run_all, token_ids
from support.families import write_family

SPEC = SimpleNamespace(
    max_position=40, num_heads=40, num_kv_heads=2, head_dim=64, hidden_size=64, experts=None,
    intermediate_size=96, score_softcap=None,
)  # fmt: skip
ROOMY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 80,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
}
"""Sizes that the kernels are compiled for; the families' own are odd on purpose."""
VARIANTS = ("llama3", "smollm3-window", "qwen3", "gemma2", "phi4-partial", "qwen2-moe")


def make_pages(num_rows: int = 3) -> Pages:
    return Pages(SPEC, PageSizes(20, 4, num_rows), torch.device("cpu"))  # type: ignore[arg-type]


def make_chunk(seq_id: str, start: int, num_tokens: int, block_ids: tuple[int, ...]) -> Chunk:
    return Chunk(seq_id, start, tuple(range(num_tokens)), block_ids, samples=True)


def lay_out(pages: Pages, *chunks: Chunk) -> Batch:
    batch = pages.lay_out(chunks)
    batch.write_tables()
    return batch


def test_prompts_are_cut_into_tiles_and_decodes_have_their_own() -> None:
    long, single = make_chunk("long", 2, 9, (7, 5, 6)), make_chunk("single", 6, 1, (9, 8))
    batch = lay_out(make_pages(), single, long)
    assert batch.token_ids.tolist() == [0, *range(9)]
    assert batch.positions.tolist() == [6, *range(2, 11)]
    assert batch.plan.slots.tolist() == [34, 30, 31, 20, 21, 22, 23, 24, 25, 26]
    tables = batch.plan.decodes.tables
    assert batch.plan.decodes.tiles[:, :3].tolist() == [[0, 1, 6]]
    assert batch.plan.prompts.tiles[:, :3].tolist() == [[1, 6, 2], [7, 3, 8]]
    for tiles, blocks in ((batch.plan.decodes, [9, 8]), (batch.plan.prompts, [7, 5, 6])):
        for place in tiles.tiles[:, 3].tolist():
            assert tables[place : place + len(blocks)].tolist() == blocks


def test_only_what_is_new_of_a_table_is_written() -> None:
    pages = make_pages()
    first = lay_out(pages, make_chunk("a", 0, 4, (3,))).plan.prompts
    pages._tables[first.tiles[0, 3]] = 99
    second = lay_out(pages, make_chunk("a", 4, 1, (3, 5))).plan.decodes
    place = int(second.tiles[0, 3])
    assert second.tables[place : place + 2].tolist() == [99, 5]
    started_over = lay_out(pages, make_chunk("a", 0, 6, (2, 5))).plan.prompts
    assert started_over.tables[place : place + 2].tolist() == [2, 5]


def test_tables_that_are_not_certain_are_written_anew() -> None:
    pages = make_pages()
    pages.lay_out([make_chunk("a", 0, 6, (3, 5))])
    pages.forget()
    tiles = lay_out(pages, make_chunk("a", 6, 1, (3, 5))).plan.decodes
    place = int(tiles.tiles[0, 3])
    assert tiles.tables[place : place + 2].tolist() == [3, 5]


def test_rows_of_those_who_left_go_to_newcomers() -> None:
    pages = make_pages(num_rows=2)
    lay_out(pages, make_chunk("a", 0, 1, (1,)), make_chunk("b", 0, 1, (2,)))
    batch = lay_out(pages, make_chunk("b", 1, 1, (2,)), make_chunk("c", 0, 1, (3,)))
    decodes = batch.plan.decodes
    places = decodes.tiles[:, 3].tolist()
    assert [int(decodes.tables[place]) for place in places] == [2, 3]


def test_decodes_for_nobody_fill_a_batch_up() -> None:
    batch = make_pages().lay_out([make_chunk("a", 6, 1, (1, 4))], num_padded=3)
    assert batch.token_ids.tolist() == [*batch.positions.tolist()[1:], 0]
    assert batch.plan.slots.tolist() == [18, -1, -1]
    assert batch.plan.decodes.tiles[1:].tolist() == [[1, 1, 0, 0], [2, 1, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"head_dim": 72}, False),
        ({"head_dim": 512}, False),
        ({"hidden_size": 100}, False),
        ({"intermediate_size": 24}, False),
        ({"num_heads": 256}, False),
        ({"experts": SimpleNamespace(intermediate_size=24, shared_size=0)}, False),
        ({"experts": SimpleNamespace(intermediate_size=32, shared_size=16)}, True),
    ],
    ids=str,
)
def test_models_of_other_sizes_stay_with_torch(changes: dict[str, object], fits: bool) -> None:
    spec = SimpleNamespace(**{**vars(SPEC), **changes})
    assert fits_kernels(spec, 16) is fits  # type: ignore[arg-type]
    assert not fits_kernels(spec, 24)  # type: ignore[arg-type]


PROMPT, OTHER = tuple(range(3, 22)), tuple(range(40, 47))
STEPS = (
    (Chunk("a", 0, PROMPT[:11], (3, 4, 9), True), Chunk("b", 0, OTHER, (1, 2), True)),
    (Chunk("b", 7, (50,), (1, 2), True), Chunk("a", 11, PROMPT[11:], (3, 4, 9, 6, 5), True)),
)


def make_runner(folder: Path, dtype: torch.dtype = torch.float32) -> Runner:
    return Runner(make_model(folder), num_blocks=12, block_size=4, cache_dtype=dtype)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family_scores_with_kernels_as_with_torch(
    tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, variant, **ROOMY)
    plain = make_runner(tmp_path)
    expected = [plain.run(step) for step in STEPS]
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    runner = make_runner(tmp_path)
    assert fits_kernels(runner.model.spec, 4)
    for step, scores in zip(STEPS, expected, strict=True):
        torch.testing.assert_close(runner.run(step), scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_a_cache_of_8_bits_scores_with_kernels_as_with_torch(
    tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "qwen3", **{**ROOMY, "num_hidden_layers": 1})
    plain = make_runner(tmp_path, dtype)
    expected = [plain.run(step) for step in STEPS]
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    runner = make_runner(tmp_path, dtype)
    for step, scores in zip(STEPS, expected, strict=True):
        torch.testing.assert_close(runner.run(step), scores, atol=1e-3, rtol=1e-3)
    codes, others = runner.caches.data.float(), plain.caches.data.float()
    assert codes.any()
    steps = (codes - others).abs()
    assert bool((steps <= (others.abs() / 8 if dtype.is_floating_point else 1)).all())


def test_an_engine_answers_with_kernels_as_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "mistral", **ROOMY)
    params = SamplingParams(max_tokens=3, temperature=0.0, ignore_eos=True)
    requests = [Generate(str(n), [n + 5] * (4 * n + 1), params) for n in range(3)]
    expected = run_all(make_engine(tmp_path, block_size=4), requests)
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    engine = make_engine(tmp_path, block_size=4)
    assert engine.runner.model.ops is gpu_ops
    made = run_all(engine, requests)
    for id, outputs in expected.items():
        assert token_ids(made[id]) == token_ids(outputs)
        assert len(token_ids(outputs)) == 3
