"""The options of `stoker bench`: their types, their help and how their text is read.

Knows typer; does not know what the options do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stoker_cli.bench.plan import parse_seconds
from stoker_cli.bench.trace import Row, TraceInvalid, read_trace
from stoker_cli.bench.workload import WORKLOADS, Workload


def read_seconds(text: str | float) -> float:
    """The value of an option that is a time."""
    try:
        return parse_seconds(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_workload(name: str, scale: float) -> Workload:
    """The workload of a name, with its lengths so many times as long."""
    if name not in WORKLOADS:
        raise typer.BadParameter(f"--workload must be one of {', '.join(WORKLOADS)}, was {name!r}")
    if not 0 < scale < float("inf"):
        raise typer.BadParameter(f"--scale must be above 0, was {scale}")
    return WORKLOADS[name].scaled(scale)


def read_rows(path: Path | None, scale: float) -> tuple[Row, ...]:
    """The requests of a trace file; none without one."""
    try:
        return tuple(row.scaled(scale) for row in read_trace(path)) if path else ()
    except (TraceInvalid, OSError) as error:
        raise typer.BadParameter(f"--trace: {error}") from error


def time_option(text: str) -> Any:
    """An option whose value is a time, in seconds or with its unit."""
    return typer.Option(parser=read_seconds, metavar="TIME", help=text)


Urls = Annotated[list[str], typer.Argument(metavar="URL [URL]", help="A second one is compared.")]
Model = Annotated[str, typer.Option(help="Empty: the first model that the server lists.")]
WorkloadName = Annotated[str, typer.Option(help=f"One of {', '.join(WORKLOADS)}.")]
Rate = Annotated[float | None, typer.Option(help="Open loop: conversations begun per second.")]
Burstiness = Annotated[
    float, typer.Option(help="Variation of the gaps: 0 constant rate, 1 Poisson, above 1 bursts.")
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", "-c", help="Closed loop: so many at a time; with a rate: most."),
]
Requests = Annotated[int | None, typer.Option("--requests", "-n", help="End after so many.")]
Duration = Annotated[float | None, time_option("Begin requests for so long, such as 30s or 5m.")]
Trace = Annotated[Path | None, typer.Option(help="Replay recorded arrivals: CSV or JSON lines.")]
Speed = Annotated[float, typer.Option(help="Replay the trace so many times faster.")]
Scale = Annotated[float, typer.Option(help="Make all lengths so many times as long.")]
Seed = Annotated[int, typer.Option(help="Of lengths, texts and arrivals.")]
RunId = Annotated[str, typer.Option(help="Opens every prompt; repeat one to repeat its prompts.")]
TtftGoal = Annotated[float, time_option("Goodput: longest time to the first token.")]
TpotGoal = Annotated[float, time_option("Goodput: longest time per output token.")]
Rounds = Annotated[int, typer.Option(min=1, help="Measure every URL so many times, by turns.")]
Warmup = Annotated[int, typer.Option(min=0, help="Requests beforehand that are not counted.")]
IgnoreEos = Annotated[bool, typer.Option(help="Ask for answers of full length.")]
Timeout = Annotated[float, time_option("Of one request.")]
ApiKey = Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="A key of yours.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")]
