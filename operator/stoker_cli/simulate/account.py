"""What `stoker simulate` tells of a trace: the timeline, the table, what other settings would do.

Knows policies and how outcomes are shown; the run is in `run`. The replica is a stated model, not a
measurement: give the figures of yours, as `stoker bench` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stoker_cli.simulate.chart import build_page, draw_blocks, spread
from stoker_cli.simulate.run import Outcome, Simulation
from stoker_cli.simulate.trace import Request
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


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be told."""

    policy: Policy
    speed: Speed
    calibrated: bool
    """Whether the operator knows the speed."""
    compare: bool
    """Also other settings."""
    html: Path | None
    """Where to write the timeline as a page."""


def tell(wish: Wish, name: str, requests: list[Request]) -> None:
    """Run the trace and print the account."""
    policy, speed = wish.policy, wish.speed
    if wish.calibrated:
        policy = replace(policy, model=speed.model)
    console = Console()
    outcome = Simulation(policy, speed.model, requests).run()
    _show_timeline(console, outcome)
    console.print(_table(policy, outcome, requests, speed, wish.compare))
    if wish.html is not None:
        wish.html.write_text(build_page(f"stoker simulate {name}", outcome.samples))
        console.print(f"timeline: {wish.html}", soft_wrap=True)


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
