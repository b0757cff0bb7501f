"""Log probabilities of answers and prompts against the whole table, computed at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.logprobs import PromptScores, rank_tokens
from stoker_runtime.engine.runner import Runner
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Chunk, Step
from stoker_runtime.wire import Generate, TokenLogprob
from support.checkpoints import write_checkpoint
from support.engines import GREEDY, make_engine, make_model, run_all

PROMPT = [(11 * i) % 300 + 3 for i in range(150)]
SCORED = SamplingParams(max_tokens=3, temperature=0.0, ignore_eos=True, prompt_logprobs=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def table(folder: Path) -> torch.Tensor:  # [num_prompt, vocab]
    """The log probabilities after every token of the prompt."""
    runner = Runner(make_model(folder), num_blocks=10, block_size=16)
    chunk = Chunk("a", 0, tuple(PROMPT), tuple(range(10)), samples=True)
    return runner.score(runner.compute([chunk])).log_softmax(-1)


def check(scores: list[list[TokenLogprob]], table: torch.Tensor) -> None:
    assert len(scores) == len(PROMPT) - 1
    for position, (own, *top) in enumerate(scores):
        row = table[position]
        assert own.token_id == PROMPT[position + 1]
        assert own.logprob == pytest.approx(float(row[own.token_id]), abs=1e-4)
        assert [one.logprob for one in top] == pytest.approx(row.topk(2).values.tolist(), abs=1e-4)


def test_ranks_are_those_of_the_whole_table() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0)) * 4
    tokens = torch.tensor([3, 1, 4, 1, 5])
    expected = logits.log_softmax(-1)
    own, ranked = rank_tokens(logits, tokens, 4).read()
    assert own == pytest.approx(expected.gather(1, tokens[:, None])[:, 0].tolist(), abs=1e-5)
    assert [id for id, _ in ranked[2]] == expected[2].topk(4).indices.tolist()
    assert [value for _, value in ranked[2]] == pytest.approx(
        expected[2].topk(4).values.tolist(), abs=1e-5
    )


def test_more_than_the_vocabulary_is_the_vocabulary() -> None:
    _, ranked = rank_tokens(torch.zeros(1, 4), torch.tensor([0]), 9).read()
    assert len(ranked[0]) == 4


@pytest.mark.parametrize("budget", [512, 33, 7], ids=["whole", "chunks", "small-chunks"])
def test_every_prompt_token_is_scored_once(folder: Path, table: torch.Tensor, budget: int) -> None:
    engine = make_engine(folder, max_batched_tokens=budget, max_num_seqs=4)
    outputs = run_all(engine, [Generate("a", PROMPT, SCORED), Generate("b", PROMPT, GREEDY)])
    check(outputs["a"][0].prompt_logprobs, table)
    assert not any(output.prompt_logprobs for output in [*outputs["a"][1:], *outputs["b"]])


def test_what_is_cached_is_scored_too(folder: Path, table: torch.Tensor) -> None:
    engine = make_engine(folder)
    run_all(engine, [Generate("a", PROMPT, GREEDY)])
    outputs = run_all(engine, [Generate("b", PROMPT, SCORED)])["b"]
    check(outputs[0].prompt_logprobs, table)
    assert outputs[0].num_cached_tokens == 0


def test_a_prompt_computed_again_is_not_scored_again(folder: Path, table: torch.Tensor) -> None:
    runner = Runner(make_model(folder), num_blocks=10, block_size=16)
    scores, blocks = PromptScores(runner), tuple(range(10))
    seq = Sequence("a", tuple(PROMPT), SCORED)
    for start, end in ((0, 40), (40, 100), (0, 70), (70, 150)):
        chunk = Chunk("a", start, tuple(PROMPT[start:end]), blocks, samples=end == 150)
        parts = scores.plan(Step((chunk,), (seq,)))
        for part, ranking in zip(parts, scores.rank(parts, runner.compute([chunk])), strict=True):
            scores.note(part, ranking)
    check(scores.take("a"), table)
    assert scores.take("a") == []


def test_nothing_is_kept_of_the_aborted(folder: Path) -> None:
    engine = make_engine(folder, max_batched_tokens=64)
    engine.submit(Generate("a", PROMPT, SCORED))
    engine.step()
    assert len(engine._pipeline.prompt_scores) == 1
    engine.abort(["a"])
    assert len(engine._pipeline.prompt_scores) == 0


def test_a_prompt_of_one_token_has_no_scores(folder: Path) -> None:
    outputs = run_all(make_engine(folder), [Generate("a", [5], SCORED)])["a"]
    assert outputs[0].prompt_logprobs == []
