"""`stoker fit CHECKPOINT`: does a model fit, and if not, what would.

Knows where a `config.json` lies and how the sums are shown; the arithmetic is the operator's own
(`decide/fit.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stoker_operator.decide.fit import (
    GIB,
    WEIGHT_BITS,
    check_fit,
    declared_quantization,
    derive_shape,
    suggest_fits,
)


def fit(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with config.json, or the file.")],
    memory: Annotated[float, typer.Option(help="GiB of one GPU.")] = 80.0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that one replica is split over.")] = 1,
    quantization: Annotated[str, typer.Option(help="Auto, None, FP8, Int8 or Int4.")] = "Auto",
    max_model_len: Annotated[int, typer.Option(min=0, help="0: the model's own.")] = 0,
) -> None:
    """Say whether a model fits on GPUs of a size; the exit status is 1 when it does not."""
    config = _read(checkpoint)
    try:
        shape = derive_shape(config)
    except KeyError as error:
        raise typer.BadParameter(f"config.json has no {error}") from error
    if quantization not in ("Auto", *WEIGHT_BITS):
        raise typer.BadParameter(f"quantization must be Auto or {', '.join(WEIGHT_BITS)}")
    console, size = Console(), int(memory * GIB)
    chosen = declared_quantization(config) if quantization == "Auto" else quantization
    table = Table(box=None, title_justify="left", title=f"{gpus} × {memory:g} GiB")
    for column in ("weights", "GiB per GPU", "KV bytes per token", "tokens of cache", "fits"):
        table.add_column(column, justify="right")
    for name in WEIGHT_BITS:
        sums = check_fit(shape, size, name, gpus=gpus, max_model_len=max_model_len)
        mark = f"{name} ←" if name == chosen else name
        figures = (f"{sums.weights_bytes / GIB:.2f}", str(sums.kv_bytes_per_token))
        table.add_row(mark, *figures, str(sums.tokens), "yes" if sums.fits else "no")
    console.print(table)
    result = check_fit(shape, size, chosen, gpus=gpus, max_model_len=max_model_len)
    console.print(result.message, soft_wrap=True)
    if not result.fits:
        for remedy in suggest_fits(shape, size, chosen, max_model_len):
            console.print(f"would fit with {remedy}")
        raise typer.Exit(1)


def _read(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json" if checkpoint.is_dir() else checkpoint
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise typer.BadParameter(f"{path} is not a JSON object")
    return config
