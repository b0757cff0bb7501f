"""`stoker fit CHECKPOINT`: does a model fit, and if not, what would.

Knows where a `config.json` lies and how the sums are shown; the arithmetic is the operator's own
(`decide/fit.py`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stoker_cli.option import check_positive
from stoker_operator.decide.fit import (
    GIB,
    KV_BYTES,
    WEIGHT_BITS,
    Question,
    Shape,
    can_split,
    check_fit,
    declared_quantization,
    derive_shape,
    suggest_fits,
)

COUNTS = (1, 2, 4, 8)
"""Numbers of GPUs that the table shows beside each other."""


def fit(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with config.json, or the file.")],
    memory: Annotated[float, typer.Option(help="GiB of one GPU.")] = 80.0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that one replica is split over.")] = 1,
    quantization: Annotated[str, typer.Option(help="Auto, None, FP8, Int8 or Int4.")] = "Auto",
    max_model_len: Annotated[int, typer.Option(min=0, help="0: the model's own.")] = 0,
    kv_cache: Annotated[str, typer.Option(help="Auto, FP8 or Int8.")] = "Auto",
) -> None:
    """Say whether a model fits on GPUs of a size; the exit status is 1 when it does not."""
    config = _read(checkpoint)
    try:
        shape = derive_shape(config)
    except KeyError as error:
        raise typer.BadParameter(f"config.json has no {error}") from error
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise typer.BadParameter(f"config.json makes no sense: {error}") from error
    check_positive(memory=memory)
    if quantization not in ("Auto", *WEIGHT_BITS):
        words = f"--quantization must be Auto, {', '.join(WEIGHT_BITS)}, was {quantization!r}"
        raise typer.BadParameter(words)
    if kv_cache not in KV_BYTES:
        raise typer.BadParameter(f"--kv-cache must be {', '.join(KV_BYTES)}, was {kv_cache!r}")
    if not can_split(shape, gpus):
        heads = f"{shape.heads} heads and {shape.kv_heads} KV heads"
        raise typer.BadParameter(f"{heads} cannot be split over {gpus} GPUs")
    chosen = declared_quantization(config) if quantization == "Auto" else quantization
    question = Question(int(memory * GIB), chosen, gpus, max_model_len, kv_cache)
    console, result = Console(), check_fit(shape, question)
    console.print(_table(shape, question))
    console.print(result.message, soft_wrap=True)
    if not result.fits:
        for remedy in suggest_fits(shape, question):
            console.print(f"would fit with {remedy}")
        raise typer.Exit(1)


def _table(shape: Shape, question: Question) -> Table:
    """Each precision on the GPUs asked for, and what it would hold on other numbers of them."""
    length = question.max_model_len or shape.context
    title = f"{question.gpus} × {question.memory_bytes / GIB:g} GiB, sequences of {length} tokens"
    table = Table(box=None, title_justify="left", title=title)
    for column in ("weights", "GiB per GPU", "KV bytes per token", "tokens of cache", "fits"):
        table.add_column(column, justify="right")
    numbers = [gpus for gpus in COUNTS if can_split(shape, gpus)]
    for gpus in numbers:
        table.add_column(f"at once on {gpus}", justify="right")
    for name in WEIGHT_BITS:
        asked = replace(question, quantization=name)
        sums = check_fit(shape, asked)
        mark = f"{name} ←" if name == question.quantization else name
        figures = (f"{sums.weights_bytes / GIB:.2f}", str(sums.kv_bytes_per_token))
        others = (check_fit(shape, replace(asked, gpus=gpus)).sequences for gpus in numbers)
        verdict = "yes" if sums.fits else "no"
        table.add_row(mark, *figures, str(sums.tokens), verdict, *map(str, others))
    return table


def _read(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json" if checkpoint.is_dir() else checkpoint
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise typer.BadParameter(f"{path} is not a JSON object")
    return config
