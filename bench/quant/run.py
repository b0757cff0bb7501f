"""What fewer bits cost: perplexity and accuracy of the committed model in every way to store it.

Knows which ways there are and prints one table; judges on the model's held-out chats, calibrates on
its own answers to the runtime's prompts. Run by `make bench-quant`; a folder with a `heldout.jsonl`
may be given as argument.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker_runtime.engine.compression import Compression, Order
from stoker_runtime.engine.evaluation import (
    MAX_EXAMPLE_TOKENS,
    Quality,
    evaluate,
    open_engine,
)
from stoker_runtime.engine.examples import ExampleReader
from stoker_runtime.quant.pack import Scheme

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat"
WRITTEN = (
    ("rtn", Scheme(8, 0, symmetric=True)),
    *((method, Scheme(4, 32, symmetric=True)) for method in ("rtn", "awq", "gptq")),
    *((method, Scheme(4, 32, symmetric=False)) for method in ("rtn", "awq", "gptq")),
    ("gptq", Scheme(4, 128, symmetric=True)),
)


@dataclass(frozen=True)
class Row:
    """One way to store the model."""

    name: str
    quality: Quality
    load_s: float


def measure(
    name: str, folder: Path, heldout: Path, quantization: str = "auto", kv: str = "auto"
) -> Row:
    """Load a folder and judge it."""
    started_at = time.monotonic()
    engine = open_engine(folder, quantization, kv_cache_dtype=kv)
    load_s = time.monotonic() - started_at
    reader = ExampleReader(folder, MAX_EXAMPLE_TOKENS)
    return Row(name, evaluate(engine, reader, reader.read(heldout)), load_s)


def measure_all(folder: Path, scratch: Path) -> Iterator[Row]:
    """The whole table, the original first."""
    heldout = folder / "heldout.jsonl"
    yield measure("float32", folder, heldout)
    yield measure("keys and values in int8", folder, heldout, kv="int8")
    for target in ("int8", "int4"):
        yield measure(f"{target} while loading", folder, heldout, target)
    for method, scheme in WRITTEN:
        kind = "symmetric" if scheme.symmetric else "with zeros"
        name = f"{method} {scheme.bits} bits, group {scheme.group_size or 'row'}, {kind}"
        compression = Compression(Order(folder, scratch / name, scheme, method))
        compression.run([] if method == "rtn" else compression.answer_prompts())
        yield measure(name, scratch / name, heldout)


def main() -> None:
    """Print the table as it grows."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else TINY_CHAT
    print(f"| {folder.name} | perplexity | change | right answers | change | load |")
    print("|---|---:|---:|---:|---:|---:|")
    first: Quality | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for row in measure_all(folder, Path(scratch)):
            quality = row.quality
            first = first or quality
            loss = quality.perplexity / first.perplexity - 1
            accuracy, before = quality.accuracy or 0.0, first.accuracy or 0.0
            print(
                f"| {row.name} | {quality.perplexity:.4f} | {loss:+.2%} | {accuracy:.1%} "
                f"| {100 * (accuracy - before):+.1f} points | {row.load_s:.2f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
