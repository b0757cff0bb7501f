"""`stoker kernels build`: compiles all GPU kernels ahead of time, and says what they take.

Knows options and how to show figures; does not know Triton: the runtime compiles, and is imported
only when the command runs.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from stoker_cli.needs import refuse_without

if TYPE_CHECKING:
    from stoker_runtime.kernels.gpu.cache import Entry

kernels = typer.Typer(help="Kernels for NVIDIA GPUs.", no_args_is_help=True)


@kernels.callback()
def group() -> None:
    """Kernels for NVIDIA GPUs."""


@kernels.command()
def build(
    arch: Annotated[str, typer.Option(help="Generations of GPUs, with commas.")] = "sm_80,sm_90",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: where the runtime looks.")
    ] = None,
    processes: Annotated[int, typer.Option(min=0, help="At once; 0: one a processor.")] = 0,
) -> None:
    """Compile every kernel for every generation, without a GPU; a GPU serves with nothing else."""
    console = Console()
    try:
        from stoker_runtime.kernels.gpu.cache import COMPILED
        from stoker_runtime.kernels.gpu.compiler import Order, find_cache
        from stoker_runtime.kernels.gpu.compiler import build as compile_kernels
        from stoker_runtime.kernels.gpu.registry import ARCHS
    except ModuleNotFoundError as error:
        refuse_without(str(error.name))
    names = arch.split(",")
    if unknown := [name for name in names if name not in ARCHS]:
        raise typer.BadParameter(f"--arch knows {', '.join(ARCHS)}, not {', '.join(unknown)}")
    folder = out or COMPILED
    with console.status("compiling") as status:
        made = compile_kernels(
            Order(names, folder, processes or len(os.sched_getaffinity(0)), cache=find_cache()),
            lambda done, total: status.update(f"compiling: {done} of {total}"),
        )
    for name, entries in made.items():
        console.print(tabulate(name, entries))
        console.print(tabulate_roofline(name))
    console.print(f"{sum(map(len, made.values()))} kernels in {folder}", highlight=False)


def tabulate(arch: str, entries: list[Entry]) -> Table:
    """What the kernels of each file take at most."""
    files: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        files[entry.key.partition("(")[0]].append(entry)
    table = Table(title=f"{arch}: {len(entries)} kernels", box=None, padding=(0, 2, 0, 0))
    for title in ("kernel", "number", "registers", "shared KiB", "spilled", "KiB"):
        table.add_column(title, justify="left" if title == "kernel" else "right")
    for name, several in sorted(files.items()):
        table.add_row(
            name,
            str(len(several)),
            str(max(one.num_registers for one in several)),
            f"{max(one.shared_bytes for one in several) / 1024:.0f}",
            str(sum(one.stack_bytes > 0 for one in several)),
            f"{sum(one.num_bytes for one in several) / 1024:.0f}",
        )
    return table


def tabulate_roofline(arch: str) -> Table:
    """The least times on the cards of this generation; nothing of it is measured."""
    from stoker_runtime.kernels.gpu.roofline import estimate_all

    estimates = list(estimate_all(arch))
    names = ", ".join(dict.fromkeys(card.name for card, _ in estimates))
    table = Table(title=f"least times by datasheet: {names}", box=None, padding=(0, 2, 0, 0))
    for title in ("work", "µs", "bound by"):
        table.add_column(title, justify="right" if title == "µs" else "left")
    for _, one in estimates:
        bound = "memory" if one.is_bound_by_memory else "sums"
        table.add_row(one.work, f"{1e6 * one.seconds:.1f}", bound)
    return table
