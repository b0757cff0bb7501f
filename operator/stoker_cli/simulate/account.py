"""What `stoker simulate` tells of a trace: the timeline, the table, what other settings would do.

Knows policies and how outcomes are shown; the run is in `run`. The replica is a stated model, not a
measurement: give the figures of yours, as `stoker bench` measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stoker_cli.bench.trace import Row
from stoker_cli.simulate.chart import build_page, draw_blocks, spread
from stoker_cli.simulate.run import Outcome, Simulation
from stoker_cli.simulate.subject import Subject
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be told."""

    model: ReplicaModel
    """How fast a replica of the simulation is."""
    calibrated: bool
    """Whether the operator knows that."""
    compare: bool
    """Also other settings."""
    html: Path | None
    """Where to write the timeline as a page."""


def tell(wish: Wish, subject: Subject, gpus: int) -> None:
    """Run the subject and print the account."""
    policy = replace(subject.policy, model=wish.model if wish.calibrated else None)
    console = Console()
    outcome = Simulation(policy, wish.model, subject.requests).run()
    _show_timeline(console, outcome)
    console.print(f"as given: {describe_policy(policy)}", highlight=False, soft_wrap=True)
    table = Board(wish.model, subject.requests, gpus, outcome)
    others = vary(policy) if wish.compare else {}
    console.print(table.draw(policy, others))
    if wish.html is not None:
        wish.html.write_text(build_page(f"stoker simulate {subject.name}", outcome.samples))
        console.print(f"timeline: {wish.html}", soft_wrap=True)


def describe_policy(policy: Policy) -> str:
    """The settings in the words of the spec."""
    wake = f"cold start {policy.cold_start_s:.3g}s"
    if policy.fixed is not None:
        return f"replicas {policy.fixed}, {wake}"
    return (
        f"minReplicas {policy.min_replicas}, maxReplicas {policy.max_replicas}, "
        f"idleTimeout {policy.idle_timeout_s:g}s, targetQueueDepth {policy.target_queue_depth}, "
        f"{wake}"
    )


def vary(policy: Policy) -> dict[str, Policy]:
    """Other settings worth knowing about, one changed at a time; of a fixed size, other sizes."""
    if policy.fixed is not None:
        sizes = {policy.fixed + 1, max(1, policy.fixed - 1)} - {policy.fixed}
        return {f"replicas {size}": replace(policy, fixed=size) for size in sorted(sizes)} | {
            "scaling 0 to 10": replace(policy, fixed=None)
        }
    idle_s, low, high = policy.idle_timeout_s, policy.min_replicas, policy.max_replicas
    depth, wake_s = policy.target_queue_depth, policy.cold_start_s
    others = {
        f"idleTimeout {idle_s / 4:g}s": replace(policy, idle_timeout_s=idle_s / 4),
        f"idleTimeout {idle_s * 4:g}s": replace(policy, idle_timeout_s=idle_s * 4),
        f"minReplicas {low + 1}": replace(
            policy, min_replicas=low + 1, max_replicas=max(high, low + 1)
        ),
        f"targetQueueDepth {depth * 4}": replace(policy, target_queue_depth=depth * 4),
        f"maxReplicas {high * 2}": replace(policy, max_replicas=high * 2),
        f"cold start {wake_s / 4:.3g}s": replace(policy, cold_start_s=wake_s / 4),
    }
    if low:
        others["minReplicas 0"] = replace(policy, min_replicas=0)
    if depth > 1:
        others["targetQueueDepth 1"] = replace(policy, target_queue_depth=1)
    return dict(sorted(others.items()))


@dataclass(frozen=True, slots=True)
class Board:
    """The table: one row per setting, compared with what was given."""

    model: ReplicaModel
    requests: list[Row]
    gpus: int
    given: Outcome

    def draw(self, policy: Policy, others: dict[str, Policy]) -> Table:
        """The given settings first."""
        unit = "GPU-s" if self.gpus else "replica-s"
        table = Table(box=None, title=f"{len(self.requests)} requests", title_justify="left")
        heads = ("setting", f"≤ {self.model.wait_goal_s:g} s %", "p50 s", "p95 s", "p99 s", "lost")
        for column in (*heads, unit, "± %", "starting", "busy", "idle", "cold starts"):
            table.add_column(column, justify="left" if column == "setting" else "right")
        table.add_row("as given", *self._cells(self.given))
        for name, other in others.items():
            outcome = Simulation(other, self.model, self.requests).run()
            table.add_row(name, *self._cells(outcome))
        return table

    def _cells(self, outcome: Outcome) -> list[str]:
        waits = [f"{outcome.quantile_s(share):.2f}" for share in (0.5, 0.95, 0.99)]
        spent, factor = outcome.spent, max(1, self.gpus)
        parts = (spent.starting, spent.busy, spent.idle)
        met = f"{100 * outcome.attainment(self.model.wait_goal_s):.2f}"
        return [
            *(met, *waits, str(outcome.lost)),
            f"{spent.total * factor:.0f}",
            self._change(spent.total),
            *(f"{seconds * factor:.0f}" for seconds in parts),
            str(outcome.starts),
        ]

    def _change(self, total_s: float) -> str:
        """How much more than what was given costs."""
        given_s = self.given.spent.total
        if total_s == given_s or not given_s:
            return ""
        change = round(100 * (total_s / given_s - 1))
        return f"{change:+d}" if change else "0"


def _show_timeline(console: Console, outcome: Outcome) -> None:
    for name, values in spread(outcome.samples, 64).items():
        top = max(values, default=0.0)
        console.print(f"{name:>18} {draw_blocks(values, 64)}│ ≤ {top:.3g}", soft_wrap=True)
