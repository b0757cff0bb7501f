"""`stoker quantize FOLDER OUT`: a checkpoint with 4 or 8 bits a weight, and what that cost.

Knows options and how to show figures; does not know how weights are rounded: the runtime does it,
and is imported only when the command runs, because it needs torch.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from stoker_cli.needs import refuse_without

if TYPE_CHECKING:
    from stoker_runtime.engine.trial import Result, Trial

BUILTIN = "builtin"


class Bits(StrEnum):
    """Of one weight."""

    FOUR = "4"
    EIGHT = "8"


class GroupSize(StrEnum):
    """Columns that share a scale."""

    ROW = "0"
    SMALL = "32"
    MEDIUM = "64"
    LARGE = "128"


class Method(StrEnum):
    """How weights are rounded."""

    GPTQ = "gptq"
    AWQ = "awq"
    RTN = "rtn"


def quantize(
    folder: Annotated[Path, typer.Argument(help="An unquantised Hugging Face checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The folder to write, new or empty.")],
    bits: Annotated[Bits, typer.Option(help="Of one weight.")] = Bits.FOUR,
    group_size: Annotated[
        GroupSize, typer.Option(help="Columns that share a scale; 0: all of a row.")
    ] = GroupSize.SMALL,
    method: Annotated[
        Method, typer.Option(help="gptq and awq look at texts, rtn only rounds.")
    ] = Method.GPTQ,
    symmetric: Annotated[
        bool, typer.Option(help="Without zero points, which some engines do not read.")
    ] = True,
    calibration: Annotated[
        str, typer.Option(help="Texts or chats (.txt, .jsonl); builtin: the model's own answers.")
    ] = BUILTIN,
    evaluate: Annotated[
        Path | None,
        typer.Option(help="Chats with answers to judge by; default: a fifth of the calibration."),
    ] = None,
) -> None:
    """Round a checkpoint to 4 or 8 bits; says perplexity and accuracy before and after."""
    console = Console()
    try:
        from stoker_runtime.engine.compression import Order
        from stoker_runtime.engine.trial import try_compression
    except ModuleNotFoundError as error:
        refuse_without(str(error.name))
    from stoker_runtime.errors import StokerRuntimeError
    from stoker_runtime.quant.pack import Scheme

    order = Order(folder, out, Scheme(int(bits), int(group_size), symmetric), method.value)
    texts = None if calibration == BUILTIN else Path(calibration)
    try:
        with console.status("reading") as status:
            trial = try_compression(order, texts, evaluate, status.update)
    except StokerRuntimeError as error:
        console.print(f"[red]{error.reason}[/]: {error}", highlight=False)
        raise typer.Exit(1) from None
    show(console, out, trial)


def show(console: Console, out: Path, trial: Trial) -> None:
    """Print what was made beside what it was made of."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "before", "after", "change"):
        table.add_column(title, justify="right" if title else "left")
    for row in rows(trial.before, trial.after):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{out}: calibrated on {trial.num_calibrating} texts, judged by {trial.num_judging} others",
        highlight=False,
    )


def rows(before: Result, after: Result) -> list[tuple[str, str, str, str]]:
    """Name, before, after and change of each figure."""
    mb = (before.num_bytes / 1e6, after.num_bytes / 1e6)
    loss = (before.quality.perplexity, after.quality.perplexity)
    found = [
        ("weights", f"{mb[0]:.1f} MB", f"{mb[1]:.1f} MB", _ratio(*mb)),
        ("perplexity", f"{loss[0]:.3f}", f"{loss[1]:.3f}", _ratio(*loss)),
    ]
    accuracy = (before.quality.accuracy, after.quality.accuracy)
    if accuracy[0] is not None and accuracy[1] is not None:
        shift = f"{100 * (accuracy[1] - accuracy[0]):+.1f} points"
        found.append(("right answers", f"{accuracy[0]:.1%}", f"{accuracy[1]:.1%}", shift))
    return found


def _ratio(before: float, after: float) -> str:
    return f"{after / before - 1:+.1%}"
