"""`stoker simulate TRACE`: what the autoscaler would have done, and what other settings would.

Knows the options; what is told is in `account`, imported only when it runs: the rules take half a
second to import, which other commands need not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    trace: Annotated[Path, typer.Argument(help="CSV: arrival_s,input_tokens,output_tokens (.gz)")],
    idle_timeout: Annotated[float, typer.Option(help="Seconds, as `idleTimeout`.")] = 300.0,
    min_replicas: Annotated[int, typer.Option(min=0)] = 0,
    max_replicas: Annotated[int, typer.Option(min=1)] = 10,
    queue_depth: Annotated[int, typer.Option(min=1, help="As `targetQueueDepth`.")] = 5,
    slots: Annotated[int, typer.Option(min=1, help="As `maxNumSeqs`.")] = 32,
    cold_start: Annotated[float, typer.Option(help="Seconds a wake takes.")] = 25.0,
    goal: Annotated[float, typer.Option(help="Seconds to the first token.")] = 2.0,
    prefill: Annotated[float, typer.Option(help="Prompt tokens a second.")] = 16000.0,
    step: Annotated[float, typer.Option(help="Milliseconds of a decode step.")] = 8.0,
    calibrated: Annotated[bool, typer.Option(help="Whether the operator knows the speed.")] = True,
    compare: Annotated[bool, typer.Option(help="Also what other settings would do.")] = True,
    html: Annotated[Path | None, typer.Option(help="Write the timeline as a page here.")] = None,
) -> None:
    """Run the operator's scaling rules over a trace in simulated time."""
    from stoker_cli.simulate.account import Speed, Wish, tell
    from stoker_cli.simulate.trace import read_trace
    from stoker_operator.decide.observed import Policy

    try:
        requests = read_trace(trace)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    policy = Policy(
        min_replicas=min_replicas,
        max_replicas=max(max_replicas, min_replicas),
        target_queue_depth=queue_depth,
        idle_timeout_s=idle_timeout,
        slots=slots,
        cold_start_s=cold_start,
    )
    tell(Wish(policy, Speed(prefill, step, goal), calibrated, compare, html), trace.name, requests)
