"""The whole engine against `transformers` on random Llamas: the same logits, the same answers.

Other families, and what differs between them, are in `model/test_families.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.runner import Runner
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Generate
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import GREEDY, make_engine, make_model, run_all, token_ids

SHAPES = {
    "gqa-tied": LlamaShape(),
    "mha-untied": LlamaShape(num_key_value_heads=4, tie_word_embeddings=False, seed=1),
    "mqa-wide-heads": LlamaShape(num_key_value_heads=1, head_dim=32, seed=2),
    "biases": LlamaShape(attention_bias=True, mlp_bias=True, seed=5),
}
LENGTHS = (5, 70, 1, 33, 150, 18)


@pytest.fixture(scope="module", params=SHAPES, ids=list(SHAPES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(request.param), SHAPES[request.param])


@pytest.fixture(scope="module")
def reference(folder: Path) -> torch.nn.Module:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()  # type: ignore[no-any-return]


def make_prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1000 + length)
    ids: list[int] = torch.randint(3, 320, (length,), generator=generator).tolist()
    return ids


@pytest.fixture(scope="module")
def answers(reference: torch.nn.Module) -> dict[int, list[int]]:
    """What `transformers` says greedily to each prompt."""
    made = {}
    for length in LENGTHS:
        ids = torch.tensor([make_prompt(length)])
        config = {"max_new_tokens": GREEDY.max_tokens, "do_sample": False, "eos_token_id": None}
        with torch.inference_mode():
            out = reference.generate(ids, attention_mask=torch.ones_like(ids), **config)  # type: ignore[operator]
        made[length] = out[0, length:].tolist()
    return made


def requests() -> list[Generate]:
    return [Generate(str(length), make_prompt(length), GREEDY) for length in LENGTHS]


def answer(engine: Engine) -> dict[int, list[int]]:
    outputs = run_all(engine, requests())
    return {int(id): token_ids(made) for id, made in outputs.items()}


@pytest.mark.parametrize("cuts", [(150,), (1, 2, 50, 51, 150), (128, 150)], ids=str)
def test_logits_equal(folder: Path, reference: torch.nn.Module, cuts: tuple[int, ...]) -> None:
    """Every position's logits, computed in one chunk or in several over the cache."""
    prompt = make_prompt(150)
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0]
    runner = Runner(make_model(folder), num_blocks=40, block_size=16)
    blocks = tuple(range(39, 19, -1))
    for start, end in zip((0, *cuts), cuts, strict=False):
        ids = tuple(prompt[start:end])
        logits = runner.run([Chunk("a", start, ids, blocks, samples=True)])
        torch.testing.assert_close(logits[0], expected[end - 1], atol=1e-4, rtol=0)


def test_logits_equal_in_a_mixed_step(folder: Path, reference: torch.nn.Module) -> None:
    """A decode, a whole prompt and the rest of a prompt together."""
    prompts = [make_prompt(40), make_prompt(21, 1), make_prompt(64, 2)]
    runner = Runner(make_model(folder), num_blocks=40, block_size=16)
    tables = [(7, 3, 5), (1, 0), (30, 31, 9, 8)]
    runner.run([Chunk("a", 0, tuple(prompts[0][:39]), tables[0], samples=False)])
    runner.run([Chunk("c", 0, tuple(prompts[2][:10]), tables[2], samples=False)])
    step = [
        Chunk("a", 39, tuple(prompts[0][39:]), tables[0], samples=True),
        Chunk("b", 0, tuple(prompts[1]), tables[1], samples=True),
        Chunk("c", 10, tuple(prompts[2][10:]), tables[2], samples=True),
    ]
    logits = runner.run(step)
    for row, prompt in zip(logits, prompts, strict=True):
        with torch.inference_mode():
            expected = reference(torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


def test_greedy_answers_equal_alone(folder: Path, answers: dict[int, list[int]]) -> None:
    engine = make_engine(folder)
    alone = {}
    for request in requests():
        alone[int(request.id)] = token_ids(run_all(engine, [request])[request.id])
    assert alone == answers


def test_greedy_answers_equal_in_a_batch(folder: Path, answers: dict[int, list[int]]) -> None:
    assert answer(make_engine(folder)) == answers


def test_greedy_answers_equal_in_small_chunks(folder: Path, answers: dict[int, list[int]]) -> None:
    engine = make_engine(folder, max_batched_tokens=7, max_num_seqs=4)
    assert answer(engine) == answers


def test_greedy_answers_equal_under_preemption(folder: Path, answers: dict[int, list[int]]) -> None:
    engine = make_engine(folder, kv_cache_tokens=208, block_size=4, max_batched_tokens=64)
    assert answer(engine) == answers
    assert engine.stats.preemptions > 0
    assert engine.stats.kv_blocks_used == 0


def test_sharded_checkpoint_reads_the_same(tmp_path: Path) -> None:
    shape = replace(SHAPES["mha-untied"])
    one = make_model(write_checkpoint(tmp_path / "one", shape))
    many = make_model(write_checkpoint(tmp_path / "many", shape, shards=3))
    assert torch.equal(one.embed.held, many.embed.held)
    x = torch.randn(3, shape.hidden_size)
    assert torch.equal(one.layers[1].qkv(x), many.layers[1].qkv(x))
    assert torch.equal(one.head(x), many.head(x))


def test_bfloat16_stays_close(folder: Path, reference: torch.nn.Module) -> None:
    prompt = make_prompt(70)
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0, -1]
    runner = Runner(make_model(folder, dtype="bfloat16"), num_blocks=8, block_size=16)
    (logits,) = runner.run([Chunk("a", 0, tuple(prompt), tuple(range(5)), samples=True)])
    assert torch.nn.functional.cosine_similarity(logits, expected, dim=0) > 0.999
