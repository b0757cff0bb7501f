"""How good a model is: perplexity of given answers, and how many it gives itself.

Knows the runner (scores) and the engine (answers); does not know how weights are stored. Called by
`compression` before and after, and by the benchmark of quantisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stoker_runtime.config import Config
from stoker_runtime.engine.assembly import build_engine, build_model
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.examples import Example, ExampleReader
from stoker_runtime.engine.loading import prepare
from stoker_runtime.engine.machine import observe_machine
from stoker_runtime.engine.runner import Runner
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Generate

BLOCK_TOKENS = 16
ROW_TOKENS = 2048
"""Tokens computed at once, and room for an answer that is longer than the right one."""
MAX_EXAMPLE_TOKENS = 1024
_PATIENCE_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Quality:
    """What a model reaches on some examples."""

    perplexity: float
    """e to the mean of -log p over the graded tokens; 1 is certainty."""
    accuracy: float | None
    """Answers that are right to the letter, between 0 and 1; None: the examples have none."""


def open_engine(
    folder: Path, quantization: str = "auto", threads: int = 0, kv_cache_dtype: str = "auto"
) -> Engine:
    """An engine that computes in float32 with a small cache."""
    config = Config(
        model=folder,
        dtype="float32",
        device="cpu",
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        threads=threads,
        kv_cache_tokens=16 * ROW_TOKENS,
        block_size=BLOCK_TOKENS,
    )
    recipe = prepare(config, observe_machine())
    blob = BlobReader(recipe.placed).start().wait()
    model = build_model(recipe, blob, owns_blob=True)
    return build_engine(recipe, model)[0]


def evaluate(engine: Engine, reader: ExampleReader, examples: Sequence[Example]) -> Quality:
    """Perplexity and accuracy."""
    asked = [example for example in examples if example.answer]
    accuracy = None
    if asked:
        answers = answer_all(engine, reader, asked)
        right = sum(a.strip() == e.answer.strip() for a, e in zip(answers, asked, strict=True))
        accuracy = right / len(asked)
    return Quality(measure_perplexity(engine.runner, examples), accuracy)


def measure_perplexity(runner: Runner, examples: Sequence[Example]) -> float:
    """Over the graded tokens of all examples together."""
    total, count = 0.0, 0
    for batch in batches(examples):
        hidden = runner.compute(chunks(batch))
        start = 0
        for example in batch:
            ids, first = example.token_ids, example.first_graded
            rows = hidden[start + first - 1 : start + len(ids) - 1]
            scores = torch.log_softmax(runner.score(rows), dim=-1)
            right = torch.tensor(ids[first:], device=scores.device)
            total -= float(scores.gather(1, right[:, None]).double().sum())
            count += len(ids) - first
            start += len(ids)
    return math.exp(total / max(1, count))


def answer_all(engine: Engine, reader: ExampleReader, examples: Sequence[Example]) -> list[str]:
    """Greedy answers, a little longer than the right ones at most."""
    requests = [
        Generate(
            str(index),
            list(example.prompt_ids),
            SamplingParams(max_tokens=len(example.answer_ids) + _PATIENCE_TOKENS, temperature=0.0),
        )
        for index, example in enumerate(examples)
    ]
    found = run_all(engine, requests)
    return [reader.decode(found[request.id]) for request in requests]


def run_all(engine: Engine, requests: Iterable[Generate]) -> dict[str, list[int]]:
    """The tokens of each request, once all have ended."""
    found: dict[str, list[int]] = {}
    for request in requests:
        found[request.id] = [id for out in engine.submit(request) for id in out.token_ids]
    while engine.has_work:
        for output in engine.step():
            found[output.id].extend(output.token_ids)
    return found


def batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Some examples at a time, of `ROW_TOKENS` together."""
    batch: list[Example] = []
    room = ROW_TOKENS
    for example in examples:
        if batch and len(example.token_ids) > room:
            yield batch
            batch, room = [], ROW_TOKENS
        batch.append(example)
        room -= -(-len(example.token_ids) // BLOCK_TOKENS) * BLOCK_TOKENS
    if batch:
        yield batch


def chunks(examples: Sequence[Example]) -> list[Chunk]:
    """Whole examples beside each other, each in blocks of its own."""
    made, block = [], 0
    for index, example in enumerate(examples):
        ids = example.token_ids
        blocks = -(-len(ids) // BLOCK_TOKENS)
        made.append(Chunk(str(index), 0, ids, tuple(range(block, block + blocks)), samples=True))
        block += blocks
    return made
