"""Perplexity and accuracy of known cases."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.evaluation import (
    BLOCK_TOKENS,
    ROW_TOKENS,
    batches,
    chunks,
    evaluate,
    measure_perplexity,
    open_engine,
)
from stoker_runtime.engine.examples import Example, ExampleReader
from stoker_runtime.kernels.linear import DenseLinear

TINY_CHAT = Path(__file__).parents[3] / "models/tiny-chat"


def example(text: str, answer: str) -> Example:
    return ExampleReader(TINY_CHAT, 512).chat([{"role": "user", "content": text}], answer)


def test_answers_are_right_to_the_letter_or_wrong() -> None:
    engine, reader = open_engine(TINY_CHAT, threads=1), ExampleReader(TINY_CHAT, 512)
    question = "What is 12 + 34?"
    right = "2+4=6, 1+3=4, so 12 + 34 = 46."
    quality = evaluate(engine, reader, [example(question, right), example(question, right + "!")])
    assert quality.accuracy == 0.5
    assert quality.perplexity > 1


def test_texts_have_no_accuracy() -> None:
    engine, reader = open_engine(TINY_CHAT, threads=1), ExampleReader(TINY_CHAT, 512)
    assert evaluate(engine, reader, [reader.text("What is 12 + 34?")]).accuracy is None


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_tokens() -> None:
    runner = open_engine(TINY_CHAT, threads=1).runner
    nothing = DenseLinear(torch.zeros(640, 256))
    object.__setattr__(runner.model, "head", nothing)
    found = measure_perplexity(runner, [example("1+1", "so 2."), example("8-1", "so 7.")])
    assert math.isclose(found, 640, rel_tol=1e-4)


def test_examples_do_not_see_each_other() -> None:
    runner = open_engine(TINY_CHAT, threads=1).runner
    one, other = example("1+1", "so 2."), example("Reverse the word lamp", "pmal")
    alone = [math.log(measure_perplexity(runner, [each])) for each in (one, other)]
    weights = [len(each.answer_ids) for each in (one, other)]
    together = math.log(measure_perplexity(runner, [one, other]))
    mean = sum(w * a for w, a in zip(weights, alone, strict=True)) / sum(weights)
    assert together == pytest.approx(mean, rel=1e-3)


def test_batches_fit_and_hold_everything() -> None:
    examples = [Example((1,) * length) for length in (700, 700, 700, 3, 3, 2048, 5)]
    found = list(batches(examples))
    assert [one for batch in found for one in batch] == examples
    for batch in found:
        made = chunks(batch)
        blocks = [block for chunk in made for block in chunk.block_ids]
        assert blocks == list(range(len(blocks)))
        assert len(blocks) * BLOCK_TOKENS <= ROW_TOKENS
