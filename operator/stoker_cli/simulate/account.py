"""What `stoker simulate` tells of a trace: the timeline, the table, which setting to change.

Knows policies and how outcomes are shown; the run is in `run`, the choice in `advice`. The replica
is a stated model, not a measurement: give the figures of yours, as `stoker bench` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stoker_cli.option import Form, print_json
from stoker_cli.simulate.advice import GIVEN, Goal, Spending, advise
from stoker_cli.simulate.chart import build_page, describe_span, draw_blocks, spread
from stoker_cli.simulate.run import Outcome, Simulation
from stoker_cli.simulate.subject import Subject
from stoker_operator.decide.coldstart import SPEEDUP
from stoker_operator.decide.observed import Policy
from stoker_operator.decide.replica import ReplicaModel

CELLS = 60


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be told."""

    model: ReplicaModel
    """How fast a replica of the simulation is."""
    calibrated: bool
    """Whether the operator knows that."""
    compare: bool
    """Also other settings."""
    goal: Goal
    price: float | None
    """Of a GPU hour; of a replica hour on CPUs."""
    html: Path | None
    """Where to write the timeline as a page."""
    output: Form


def tell(wish: Wish, subject: Subject, gpus: int) -> None:
    """Run the subject, and others with one setting changed, and give the account."""
    policy = replace(subject.policy, model=wish.model if wish.calibrated else None)
    policies = {GIVEN: policy} | (vary(policy, subject.parked_wake_s) if wish.compare else {})
    outcomes = simulate_all(policies, wish.model, subject)
    board = Board(wish.goal, Spending(gpus, wish.price), outcomes)
    advice = advise(outcomes, wish.goal, board.spending) if wish.compare else ""
    words = [f"{GIVEN}: {describe_policy(policy)}", *([advice] if advice else [])]
    if wish.html is not None:
        samples, rows = outcomes[GIVEN].samples, board.rows()
        wish.html.write_text(build_page(f"stoker simulate {subject.name}", samples, words, rows))
    if wish.output == Form.JSON:
        told = {"name": subject.name, "requests": len(subject.requests), "advice": advice}
        given = {key: value for key, value in asdict(policy).items() if key != "model"}
        print_json(told | {"given": given, "settings": board.document()})
    else:
        console = Console()
        _show_timeline(console, outcomes[GIVEN])
        console.print(board.draw(f"{len(subject.requests)} requests"))
        for text in words:
            console.print(text, highlight=False, soft_wrap=True)
        if wish.html is not None:
            console.print(f"timeline: {wish.html}", soft_wrap=True)


def simulate_all(
    policies: Mapping[str, Policy], model: ReplicaModel, subject: Subject
) -> dict[str, Outcome]:
    """What each comes to, all paid for until the last of them has come to rest."""
    runs = {name: Simulation(one, model, subject.requests) for name, one in policies.items()}
    outcomes = {name: one.run() for name, one in runs.items()}
    end = max(one.ended_at for one in runs.values())
    for one in runs.values():
        one.pay_until(end)
    return outcomes


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


def vary(policy: Policy, parked_wake_s: float | None = None) -> dict[str, Policy]:
    """Other settings worth knowing about, one changed at a time; of a fixed size, other sizes.

    The warm pool's standby holds the weights, and ten models share it. parked_wake_s: what a wake
    from there takes, where that was measured.
    """
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
    else:
        first_s = parked_wake_s or wake_s * SPEEDUP["resident"]
        others[f"warmPool, wake {first_s:.2g}s"] = replace(policy, first_wake_s=first_s)
    if depth > 1:
        others["targetQueueDepth 1"] = replace(policy, target_queue_depth=1)
    return dict(sorted(others.items()))


@dataclass(frozen=True, slots=True)
class Board:
    """What each setting came to, compared with what was given."""

    goal: Goal
    spending: Spending
    outcomes: Mapping[str, Outcome]

    def draw(self, title: str) -> Table:
        """A table for the terminal."""
        heads, *rows = self.rows()
        table = Table(box=None, title=title, title_justify="left", padding=(0, 1, 0, 0))
        for index, column in enumerate(heads):
            table.add_column(column, justify="right" if index else "left", no_wrap=not index)
        for cells in rows:
            table.add_row(*cells)
        return table

    def rows(self) -> list[list[str]]:
        """Heads, and a row for each setting; the given one first."""
        cost = ["cost"] if self.spending.price is not None else []
        heads = ["setting", f"≤ {self.goal.wait_s:g} s %", "p95 s", "p99 s", "lost"]
        heads += [self.spending.unit, "± %", *cost, "starting", "busy", "idle", "wakes"]
        return [heads, *([name, *self._cells(one)] for name, one in self.outcomes.items())]

    def document(self) -> list[dict[str, Any]]:
        """The same for programs, with units in the names."""
        spending = self.spending
        return [
            {
                "setting": name,
                "attainment": one.attainment(self.goal.wait_s),
                **{f"p{share}_s": one.quantile_s(share / 100) for share in (50, 95, 99)},
                "lost": one.lost,
                "cold_starts": one.starts,
                f"{'gpu' if spending.gpus else 'replica'}_seconds": {
                    key: value * spending.factor for key, value in asdict(one.spent).items()
                },
                "cost": spending.cost(one),
            }
            for name, one in self.outcomes.items()
        ]

    def _cells(self, outcome: Outcome) -> list[str]:
        waits = [f"{outcome.quantile_s(share):.2f}" for share in (0.95, 0.99)]
        spent, factor = outcome.spent, self.spending.factor
        parts = (spent.starting, spent.busy, spent.idle)
        met = f"{100 * outcome.attainment(self.goal.wait_s):.2f}"
        cost = self.spending.cost(outcome)
        return [
            *(met, *waits, str(outcome.lost)),
            f"{spent.total * factor:.0f}",
            self._change(outcome),
            *([] if cost is None else [f"{cost:.2f}"]),
            *(f"{seconds * factor:.0f}" for seconds in parts),
            str(outcome.starts),
        ]

    def _change(self, outcome: Outcome) -> str:
        """How much more than what was given costs."""
        given = self.outcomes[GIVEN]
        if outcome is given or not given.spent.total:
            return ""
        change = round(100 * (outcome.spent.total / given.spent.total - 1))
        return f"{change:+d}" if change else "0"


def _show_timeline(console: Console, outcome: Outcome) -> None:
    for name, values in spread(outcome.samples, CELLS).items():
        top = max(values, default=0.0)
        console.print(f"{name:>17} {draw_blocks(values)}│ ≤ {top:.3g}", soft_wrap=True)
    end = describe_span(outcome.samples[-1].at if outcome.samples else 0.0)
    console.print(f"{'':>17} 0{end:>{CELLS - 1}}", highlight=False, soft_wrap=True)
