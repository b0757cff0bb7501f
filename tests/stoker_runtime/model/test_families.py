"""Every family through the whole engine against `transformers`: the same logits, the same answers.

The models are random and tiny, their windows, soft caps, ropes and experts are not.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.runner import Runner
from stoker_runtime.errors import ArchitectureUnsupported
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Generate
from support.engines import make_engine, make_model, run_all, token_ids
from support.families import FAMILIES, VOCAB, write_family

GREEDY = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
LENGTHS = {"a": 5, "b": 44, "c": 1, "d": 23, "b again": 44, "e": 13}
LITTLE = {"kv_cache_tokens": 76, "block_size": 4, "max_num_seqs": 6, "max_batched_tokens": 24}
SETTINGS: dict[str, dict[str, int]] = {
    "plenty": {},
    "small chunks": {"max_batched_tokens": 7, "max_num_seqs": 3, "block_size": 4},
    "little cache": LITTLE,
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, torch.nn.Module]:
    """A checkpoint folder and the model it was written from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    return folder, write_family(folder, request.param)


def make_prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    ids: list[int] = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
    return ids


@torch.inference_mode()
def expected_logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """What `transformers` computes after each token, without any cache."""
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0].float()
    return logits


@pytest.mark.parametrize("cuts", [(60,), (1, 2, 25, 26, 60)], ids=["whole", "cut"])
def test_logits_equal(family: tuple[Path, torch.nn.Module], cuts: tuple[int, ...]) -> None:
    """The prompt in one chunk, or in several over a cache whose blocks lie anywhere."""
    folder, model = family
    prompt = make_prompt(60)
    expected = expected_logits(model, prompt)
    runner = Runner(make_model(folder), num_blocks=20, block_size=4)
    blocks = (3, 17, 9, 0, 12, 5, 19, 1, 8, 14, 2, 11, 6, 18, 4)
    for start, end in zip((0, *cuts), cuts, strict=False):
        hidden = runner.compute([Chunk("a", start, tuple(prompt[start:end]), blocks, samples=True)])
        torch.testing.assert_close(runner.score(hidden), expected[start:end], atol=1e-4, rtol=0)


def test_logits_equal_in_a_mixed_step(family: tuple[Path, torch.nn.Module]) -> None:
    """A decode beyond the window, a whole prompt and the rest of a prompt together."""
    folder, model = family
    prompts = [make_prompt(30), make_prompt(21), make_prompt(34)]
    runner = Runner(make_model(folder), num_blocks=12, block_size=8)
    tables = [(7, 3, 5, 2), (1, 0, 4), (11, 10, 9, 8, 6)]
    runner.compute([Chunk("a", 0, tuple(prompts[0][:29]), tables[0], samples=False)])
    runner.compute([Chunk("c", 0, tuple(prompts[2][:10]), tables[2], samples=False)])
    step = [
        Chunk("a", 29, tuple(prompts[0][29:]), tables[0], samples=True),
        Chunk("b", 0, tuple(prompts[1]), tables[1], samples=True),
        Chunk("c", 10, tuple(prompts[2][10:]), tables[2], samples=True),
    ]
    for row, prompt in zip(runner.run(step), prompts, strict=True):
        expected = expected_logits(model, prompt)[-1]
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_greedy_answers_equal(
    family: tuple[Path, torch.nn.Module], settings: dict[str, int]
) -> None:
    """Each token is the likeliest after those before it, for `transformers` too.

    All prompts at once, then the long one again, whose keys and values are in the cache.
    """
    folder, model = family
    engine = make_engine(folder, **settings)
    requests = [Generate(name, make_prompt(length), GREEDY) for name, length in LENGTHS.items()]
    outputs = run_all(engine, requests)
    outputs |= run_all(engine, [Generate("b later", make_prompt(44), GREEDY)])
    assert len(outputs) == len(LENGTHS) + 1
    for name, made in outputs.items():
        prompt, answer = make_prompt(LENGTHS.get(name, 44)), token_ids(made)
        expected = expected_logits(model, prompt + answer)[len(prompt) - 1 : -1].argmax(-1)
        assert answer == expected.tolist(), name
    assert outputs["b later"][0].num_cached_tokens >= (0 if settings is LITTLE else 32)
    has_room = settings is not LITTLE or engine._scheduler.pool.window > 0  # it frees blocks
    assert engine.stats.preemptions > 0 or has_room


def test_bfloat16_stays_close(family: tuple[Path, torch.nn.Module]) -> None:
    folder, model = family
    prompt = make_prompt(30)
    runner = Runner(make_model(folder, dtype="bfloat16"), num_blocks=8, block_size=4)
    chunk = Chunk("a", 0, tuple(prompt), tuple(range(8)), samples=True)
    made = runner.score(runner.compute([chunk]))
    near = torch.nn.functional.cosine_similarity(made, expected_logits(model, prompt), dim=-1)
    assert near.median() > 0.99  # experts may change for a token whose best ones are nearly equal


def test_longrope_takes_its_long_factors_when_longer_sequences_are_wanted(tmp_path: Path) -> None:
    model = write_family(tmp_path, "phi3-longrope")
    prompt = make_prompt(100)
    expected = expected_logits(model, prompt)
    runner = Runner(make_model(tmp_path, max_model_len=128), num_blocks=7, block_size=16)
    for start, end in ((0, 30), (30, 100)):
        chunk = Chunk("a", start, tuple(prompt[start:end]), tuple(range(7)), samples=True)
        made = runner.score(runner.compute([chunk]))
        torch.testing.assert_close(made, expected[start:end], atol=1e-4, rtol=0)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_rounded_weights_stay_close(
    family: tuple[Path, torch.nn.Module], quantization: str
) -> None:
    """Every product of every family can be rounded, those of experts too."""
    folder, model = family
    prompt = make_prompt(30)
    runner = Runner(make_model(folder, quantization=quantization), num_blocks=8, block_size=4)
    chunk = Chunk("a", 0, tuple(prompt), tuple(range(8)), samples=True)
    made = runner.score(runner.compute([chunk]))
    near = torch.nn.functional.cosine_similarity(made, expected_logits(model, prompt), dim=-1)
    assert near.median() > {"int8": 0.99, "int4": 0.8}[quantization]


def test_is_refused_before_a_weight_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(ArchitectureUnsupported, match="'GPT2LMHeadModel' is not supported"):
        make_model(tmp_path)
