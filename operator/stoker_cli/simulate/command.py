"""`stoker simulate TRACE`: what the autoscaler would have done, and what other settings would.

Knows the options and the table; the run is in `run`. The replica is a stated model, not a
measurement: give the figures of yours, as `stoker bench` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stoker_cli.simulate.chart import build_page, draw_blocks, spread
from stoker_cli.simulate.run import Outcome, Simulation
from stoker_cli.simulate.trace import Request, read_trace
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one replica of the simulation is."""

    prefill_tokens_s: float
    step_ms: float
    goal_s: float

    @property
    def model(self) -> ReplicaModel:
        """The figures in the operator's words."""
        step_s = self.step_ms / 1000
        return ReplicaModel(
            self.prefill_tokens_s, step_s, step_s / 32, 512, self.goal_s, 6.25 * step_s
        )


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
    try:
        requests = read_trace(trace)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    speed = Speed(prefill, step, goal)
    policy = Policy(
        min_replicas=min_replicas,
        max_replicas=max(max_replicas, min_replicas),
        target_queue_depth=queue_depth,
        idle_timeout_s=idle_timeout,
        slots=slots,
        cold_start_s=cold_start,
        model=speed.model if calibrated else None,
    )
    console = Console()
    outcome = Simulation(policy, speed.model, requests).run()
    _show_timeline(console, outcome)
    console.print(_table(policy, outcome, requests, speed, compare))
    if html is not None:
        html.write_text(build_page(f"stoker simulate {trace.name}", outcome.samples))
        console.print(f"timeline: {html}", soft_wrap=True)


def vary(policy: Policy) -> dict[str, Policy]:
    """Other settings worth knowing about, one changed at a time."""
    idle_s, low = policy.idle_timeout_s, policy.min_replicas
    return {
        f"idleTimeout {idle_s / 4:g}s": replace(policy, idle_timeout_s=idle_s / 4),
        f"idleTimeout {idle_s * 4:g}s": replace(policy, idle_timeout_s=idle_s * 4),
        f"minReplicas {low + 1}": replace(
            policy, min_replicas=low + 1, max_replicas=max(policy.max_replicas, low + 1)
        ),
        f"maxReplicas {policy.max_replicas * 2}": replace(
            policy, max_replicas=policy.max_replicas * 2
        ),
        f"cold start {policy.cold_start_s / 4:g}s": replace(
            policy, cold_start_s=policy.cold_start_s / 4
        ),
    }


def _table(
    policy: Policy, outcome: Outcome, requests: list[Request], speed: Speed, compare: bool
) -> Table:
    table = Table(box=None, title=f"{len(requests)} requests", title_justify="left")
    heads = ("setting", f"≤ {speed.goal_s:g} s %", "p50 s", "p95 s", "p99 s", "lost")
    for column in (*heads, "replica-s", "starting", "busy", "idle", "cold starts"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    table.add_row("as given", *_cells(outcome, speed.goal_s))
    for name, other in vary(policy).items() if compare else ():
        table.add_row(name, *_cells(Simulation(other, speed.model, requests).run(), speed.goal_s))
    return table


def _cells(outcome: Outcome, goal_s: float) -> list[str]:
    waits = [f"{outcome.quantile_s(share):.2f}" for share in (0.5, 0.95, 0.99)]
    spent = outcome.spent
    seconds = (spent.total, spent.starting, spent.busy, spent.idle)
    met = f"{100 * outcome.attainment(goal_s):.2f}"
    return [met, *waits, str(outcome.lost), *(f"{s:.0f}" for s in seconds), str(outcome.starts)]


def _show_timeline(console: Console, outcome: Outcome) -> None:
    for name, values in spread(outcome.samples, 64).items():
        top = max(values, default=0.0)
        console.print(f"{name:>18} {draw_blocks(values, 64)}│ ≤ {top:.3g}", soft_wrap=True)
