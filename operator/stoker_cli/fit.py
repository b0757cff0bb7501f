"""`stoker fit CHECKPOINT`: does a model fit, and if not, what would.

Knows where a `config.json` lies and how the sums are shown; the arithmetic is the operator's own
(`decide/fit.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stoker_api.engine import KvCacheDtype, Quantization
from stoker_cli.card import find_memory_gib
from stoker_cli.option import Form, Output, check_positive, print_json
from stoker_operator.decide.fit import (
    GIB,
    WEIGHT_BITS,
    Question,
    can_split,
    check_fit,
    suggest_fits,
)
from stoker_operator.decide.shape import Shape, Stored, declared_quantization, derive_shape

DEFAULT_GIB = 80.0
COUNTS = (1, 2, 4, 8)
"""Numbers of GPUs that the table shows beside each other."""


def fit(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with config.json, or the file.")],
    gpu: Annotated[str, typer.Option(help="Kind of GPU, such as L4, A100-80GB or H100.")] = "",
    memory: Annotated[
        float | None, typer.Option(help="GiB of one GPU instead; without either 80.")
    ] = None,
    gpus: Annotated[
        int,
        typer.Option("--gpus", "--tensor-parallel", min=1, help="GPUs that share one replica."),
    ] = 1,
    quantization: Annotated[
        Quantization, typer.Option(case_sensitive=False, help="As `model.quantization`.")
    ] = Quantization.AUTO,
    max_model_len: Annotated[
        int, typer.Option(min=0, help="As `engine.maxModelLen`; 0: the model's own.")
    ] = 0,
    kv_cache: Annotated[
        KvCacheDtype,
        typer.Option(
            "--kv-cache", "--kv-cache-dtype", case_sensitive=False, help="As `engine.kvCacheDtype`."
        ),
    ] = KvCacheDtype.AUTO,
    output: Output = Form.TEXT,
) -> None:
    """Say whether a model fits on GPUs of a size; the exit status is 1 when it does not."""
    check_positive(memory=memory)
    if gpu and memory is not None:
        raise typer.BadParameter("--gpu says how much --memory there is; give one of them")
    config = _read(checkpoint)
    try:
        shape, stored = derive_shape(config), declared_quantization(config)
    except ValueError as error:
        raise typer.BadParameter(f"config.json: {error}") from error
    if not can_split(shape, gpus):
        heads = f"{shape.heads} heads and {shape.kv_heads} KV heads"
        raise typer.BadParameter(f"{heads} cannot be split over {gpus} GPUs")
    if max_model_len > shape.longest:
        most = f"--max-model-len must be at most the model's {shape.longest}"
        raise typer.BadParameter(f"{most}, was {max_model_len}")
    size = find_memory_gib(gpu) if gpu else memory or DEFAULT_GIB
    question = Question(int(size * GIB), "None", gpus, max_model_len, kv_cache.value)
    _tell(shape, _choose(question, quantization, stored), output)


def _choose(question: Question, wanted: Quantization, stored: Stored | None) -> Question:
    """What weights will be in memory. Refuses to round a checkpoint that is rounded already."""
    if stored is None:
        is_plain = wanted == Quantization.AUTO
        return question if is_plain else replace(question, quantization=wanted.value)
    if wanted != Quantization.AUTO:
        words = f"the checkpoint is stored in {stored.quantization}"
        raise typer.BadParameter(f"--quantization must be Auto, {words}, was {wanted}")
    return replace(
        question,
        quantization=stored.quantization,
        is_stored=True,
        group_size=stored.group_size,
    )


def _tell(shape: Shape, question: Question, output: Form) -> None:
    result = check_fit(shape, question)
    remedies = () if result.fits else suggest_fits(shape, question)
    if output == Form.JSON:
        told = {"fits": result.fits, "message": result.message, "remedies": remedies}
        sums = asdict(result) | {"sequences": result.sequences, "total_bytes": result.total_bytes}
        print_json(told | {"question": asdict(question), "sums": sums})
    else:
        console = Console()
        console.print(_table(shape, question))
        console.print(result.message, soft_wrap=True)
        for remedy in remedies:
            console.print(f"would fit with {remedy}", soft_wrap=True)
    if not result.fits:
        raise typer.Exit(1)


def _table(shape: Shape, question: Question) -> Table:
    """Each precision on the GPUs asked for, and what it would hold on other numbers of them."""
    length = question.max_model_len or shape.context
    title = f"{question.gpus} × {question.memory_bytes / GIB:.4g} GiB, sequences of {length} tokens"
    table = Table(box=None, title_justify="left", title=title)
    for column in ("weights", "GiB per GPU", "KV bytes per token", "tokens of cache", "fits"):
        table.add_column(column, justify="right")
    numbers = [gpus for gpus in COUNTS if can_split(shape, gpus)]
    for gpus in numbers:
        table.add_column(f"at once on {gpus}", justify="right")
    for name in [question.quantization] if question.is_stored else WEIGHT_BITS:
        asked = replace(question, quantization=name)
        sums = check_fit(shape, asked)
        mark = f"{name} ←" if name == question.quantization else name
        figures = (f"{sums.weights_bytes / GIB:.4g}", str(sums.kv_bytes_per_token))
        others = (check_fit(shape, replace(asked, gpus=gpus)).sequences for gpus in numbers)
        verdict = "yes" if sums.fits else "no"
        table.add_row(mark, *figures, str(sums.tokens), verdict, *map(str, others))
    return table


def _read(checkpoint: Path) -> Mapping[str, Any]:
    path = checkpoint / "config.json" if checkpoint.is_dir() else checkpoint
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise typer.BadParameter(f"{path} is not a JSON object")
    return config
