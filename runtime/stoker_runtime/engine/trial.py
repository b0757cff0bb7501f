"""One quantisation with its figures: which texts calibrate, which judge, what it cost.

Knows the order of things; does not know how weights are rounded (`compression`) or judged
(`evaluation`). Called by `stoker quantize` and the benchmark of quantisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker_runtime.engine.compression import Compression, Order
from stoker_runtime.engine.evaluation import Quality, evaluate, open_engine
from stoker_runtime.engine.examples import Example, ExampleReader

_HELD_BACK = 5
"""Without a file to judge by, every fifth text is kept from calibration for it."""


@dataclass(frozen=True, slots=True)
class Result:
    """A checkpoint, as it is measured."""

    quality: Quality
    num_bytes: int
    """Of its weight files."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was made, beside what it was made of."""

    before: Result
    after: Result
    num_calibrating: int
    num_judging: int


def try_compression(
    order: Order,
    calibration: Path | None = None,
    judging: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Trial:
    """Write the checkpoint and judge both; without files the model's own answers are the texts.

    `report` is told what begins. Raises what the runtime raises for folders and files.
    """
    report("reading")
    compression = Compression(order)
    report("gathering calibration texts")
    texts = compression.reader.read(calibration) if calibration else compression.answer_prompts()
    used, judged = _split(texts, compression.reader.read(judging) if judging else None)
    report(f"rounding with {order.method} on {len(used)} texts")
    compression.run(used)
    report(f"judging the original on {len(judged)} texts")
    before = _measure(order.source, compression.reader, judged)
    report("judging the result")
    after = _measure(order.target, compression.reader, judged)
    return Trial(before, after, len(used), len(judged))


def _split(
    texts: Sequence[Example], judged: Sequence[Example] | None
) -> tuple[list[Example], list[Example]]:
    if judged is not None:
        return list(texts), list(judged)
    kept = [text for i, text in enumerate(texts) if i % _HELD_BACK == 0]
    return [text for i, text in enumerate(texts) if i % _HELD_BACK] or kept, kept


def _measure(folder: Path, reader: ExampleReader, examples: Sequence[Example]) -> Result:
    num_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return Result(evaluate(open_engine(folder), reader, examples), num_bytes)
