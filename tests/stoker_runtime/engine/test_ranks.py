"""Two processes that share a model answer as one that has all of it.

The leader is this process, its follower a real one: models move in and out of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from msgspec import structs

from stoker_runtime.config import Config
from stoker_runtime.engine import assembly
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.ranks import make_ranks
from stoker_runtime.engine.resident import Residents
from stoker_runtime.engine.runner import Runner
from stoker_runtime.engine.tenancy import Tenancy
from stoker_runtime.errors import ConfigInvalid, OutOfMemory
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Failed, Generate
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import MACHINE, make_engine, run_all, token_ids
from support.families import write_family
from support.quantized import (
    Recipe,
    pack_awq,
    pack_compressed,
    pack_gptq,
    pack_int8,
    write_quantized,
)

SETTINGS: dict[str, Any] = {"max_batched_tokens": 24, "max_num_seqs": 4, "block_size": 4}
SHARED = Config(
    device="cpu", threads=1, dtype="float32", kv_cache_tokens=4096, tensor_parallel=2, **SETTINGS
)
GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
LENGTHS = {"a": 5, "b": 44, "c": 1, "d": 23, "b again": 44, "e": 13}
FAMILIES = (
    *("llama2", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3-window"),
    *("mixtral", "qwen2-moe", "qwen3-moe"),
)
GROUPED = {"bits": 4, "group_size": 32}


def compressed(layout: str, **weights: Any) -> dict[str, Any]:
    """A `quantization_config` of compressed-tensors."""
    size = {"group_size": 32, "symmetric": False} if weights["strategy"] == "group" else {}
    group = {"targets": ["Linear"], "weights": {"type": "int", **weights, **size}}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
    }


@pytest.fixture(scope="module")
def pair() -> Iterator[Tenancy]:
    """The leader's tenancy; a follower that ends fails the test that runs."""
    torch.set_num_threads(1)
    lost: list[Failed] = []
    ranks = make_ranks(SHARED)
    ranks.start(SHARED, lost.append)
    residents = Residents(SHARED, MACHINE, lambda said: None)
    yield Tenancy(residents, lambda phase: None, ranks)
    assert not lost


def load(pair: Tenancy, folder: Path, **settings: Any) -> Engine:
    pair.load(replace(SHARED, model=folder, **settings))
    assert pair.engine
    return pair.engine


def make_prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    ids: list[int] = torch.randint(3, 128, (length,), generator=generator).tolist()
    return ids


def answer(engine: Engine) -> dict[str, list[int]]:
    """All prompts at once, then the long one again, whose keys and values are in the cache."""
    requests = [Generate(name, make_prompt(length), GREEDY) for name, length in LENGTHS.items()]
    outputs = run_all(engine, requests)
    outputs |= run_all(engine, [Generate("b later", make_prompt(44), GREEDY)])
    return {name: token_ids(made) for name, made in outputs.items()}


def score(runner: Runner) -> torch.Tensor:
    """Of a step that mixes a decode, a whole prompt and the rest of a prompt."""
    first, second, third = make_prompt(14), make_prompt(9), make_prompt(11)
    runner.compute([Chunk("a", 0, tuple(first[:13]), (7, 3, 5, 2), samples=False)])
    runner.compute([Chunk("c", 0, tuple(third[:6]), (9, 8, 6), samples=False)])
    step = [
        Chunk("a", 13, tuple(first[13:]), (7, 3, 5, 2), samples=True),
        Chunk("b", 0, tuple(second), (1, 0, 4), samples=True),
        Chunk("c", 6, tuple(third[6:]), (9, 8, 6), samples=True),
    ]
    return runner.run(step)


def check(pair: Tenancy, folder: Path, tolerance: float = 1e-4, **settings: Any) -> None:
    """Scores and answers are those of one process."""
    alone, shared = make_engine(folder, **SETTINGS, **settings), load(pair, folder, **settings)
    torch.testing.assert_close(score(shared.runner), score(alone.runner), atol=tolerance, rtol=0)
    alone.runner.clear(range(10))
    shared.runner.clear(range(10))
    assert answer(shared) == answer(alone)
    pair.unload()


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_answer_as_one(pair: Tenancy, tmp_path: Path, family: str) -> None:
    write_family(tmp_path, family)
    check(pair, tmp_path)


def test_biases_are_added_once_and_an_odd_vocabulary_is_whole(
    pair: Tenancy, tmp_path: Path
) -> None:
    shape = LlamaShape(
        vocab_size=323, attention_bias=True, mlp_bias=True, tie_word_embeddings=False
    )
    check(pair, write_checkpoint(tmp_path, shape))


@pytest.mark.parametrize(
    ("pack", "config"),
    [
        (pack_gptq, {"quant_method": "gptq", **GROUPED, "sym": False}),
        (pack_awq, {"quant_method": "awq", **GROUPED, "zero_point": True}),
        (pack_compressed, compressed("pack-quantized", num_bits=4, strategy="group")),
        (pack_int8, compressed("int-quantized", num_bits=8, strategy="channel")),
    ],
)
def test_quantised_shares_answer_as_the_whole(
    pair: Tenancy, tmp_path: Path, pack: Any, config: dict[str, Any]
) -> None:
    folder = (
        write_quantized(tmp_path, pack, Recipe(8 if pack is pack_int8 else 4), config) / "quantized"
    )
    check(pair, folder, tolerance=2e-3)  # rows meet codes in 16 bits, of fewer columns each


@pytest.mark.parametrize("settings", [{"quantization": "int8"}, {"kv_cache_dtype": "int8"}])
def test_rounding_is_shared_too(pair: Tenancy, tmp_path: Path, settings: dict[str, str]) -> None:
    folder = write_checkpoint(tmp_path)
    alone, shared = make_engine(folder, **SETTINGS, **settings), load(pair, folder, **settings)
    near = torch.nn.functional.cosine_similarity(score(shared.runner), score(alone.runner), dim=-1)
    assert near.min() > 0.999
    pair.unload()


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_a_cache_that_is_too_small_preempts_on_all_ranks(
    pair: Tenancy, tmp_path: Path, overlap: str
) -> None:
    """Also where steps are launched whose tokens the step before still draws."""
    folder = write_checkpoint(tmp_path)
    shared = load(pair, folder, kv_cache_tokens=76, overlap=overlap)
    assert answer(shared) == answer(make_engine(folder, **SETTINGS))
    assert shared.stats.preemptions > 0
    pair.unload()


def test_every_rank_sleeps_and_wakes(pair: Tenancy, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    expected = answer(make_engine(folder, **SETTINGS))
    load(pair, folder)
    levels: tuple[Literal[1, 2], ...] = (1, 2)
    for level in levels:
        pair.sleep(level)
        assert pair.engine is None
        pair.wake()
        assert pair.engine
        assert answer(pair.engine) == expected
    pair.unload()


def test_prompts_are_scored_as_by_one(pair: Tenancy, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    request = Generate("a", make_prompt(30), structs.replace(GREEDY, prompt_logprobs=2))
    shared = run_all(load(pair, folder), [request])["a"][0].prompt_logprobs
    alone = run_all(make_engine(folder, **SETTINGS), [request])["a"][0].prompt_logprobs
    assert len(shared) == 29
    for mine, theirs in zip(shared, alone, strict=True):
        assert [one.token_id for one in mine] == [one.token_id for one in theirs]
        assert [one.logprob for one in mine] == pytest.approx([o.logprob for o in theirs], abs=1e-4)
    pair.unload()


def test_what_can_not_be_split_is_refused_and_the_next_model_runs(
    pair: Tenancy, tmp_path: Path
) -> None:
    odd = write_checkpoint(tmp_path / "odd", LlamaShape(intermediate_size=65))
    with pytest.raises(ConfigInvalid, match="`tensor_parallel` must divide intermediate_size 65"):
        load(pair, odd)
    check(pair, write_checkpoint(tmp_path / "good"))


def test_a_leader_that_fails_calls_the_others_off(
    pair: Tenancy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **named: object) -> None:
        raise MemoryError("no room here")

    folder = write_checkpoint(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "build_model", fail)
        with pytest.raises(MemoryError, match="no room here"):
            load(pair, folder)
    check(pair, folder)


def test_a_follower_that_fails_says_why(
    pair: Tenancy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Config, "to_args", lambda config: ["--bogus", "1"])
        with pytest.raises(ConfigInvalid, match="rank 1 of 2: unknown flag '--bogus'"):
            load(pair, folder)
    check(pair, folder)


def test_too_little_memory_is_refused_before_anything_is_read(
    pair: Tenancy, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path)
    with pytest.raises(OutOfMemory):
        load(pair, folder, kv_cache_tokens=1 << 40)
    check(pair, folder)
