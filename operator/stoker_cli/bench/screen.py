"""What a person sees of a benchmark: a bar while it runs, tables when a run has ended.

Knows the terminal; does not know how anything is measured. The bar goes to standard error, the
results to standard output.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stoker_cli.bench import report
from stoker_cli.bench.client import Target
from stoker_cli.bench.measure import CUT, Sample
from stoker_cli.bench.plan import Plan
from stoker_cli.bench.report import Result
from stoker_cli.bench.session import Watcher

_PIPED_WIDTH = 120
"""Columns when nobody's terminal says how many there are."""


class Screen(Watcher):
    """Follows a session; use it as a context."""

    def __init__(self, plan: Plan, num_runs: int) -> None:
        """`num_runs`: rounds times servers."""
        piped = Console().is_terminal is False
        self._out = Console(width=_PIPED_WIDTH if piped else None, highlight=False)
        self._plan = plan
        self._num_runs = num_runs
        self._run = self._num_ok = self._num_failed = 0
        self._began_at = 0.0
        words = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        bar = Console(stderr=True)
        self._progress = Progress(*words, console=bar, transient=True, disable=not bar.is_terminal)
        self._task = self._progress.add_task("warming up", total=None)

    def __enter__(self) -> Screen:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._progress.stop()

    def begun(self, target: Target, number: int) -> None:
        """A run against a server begins."""
        self._run += 1
        self._num_ok = self._num_failed = 0
        self._began_at = time.monotonic()
        total = self._plan.expected_requests or self._plan.duration_s
        words = f"run {self._run} of {self._num_runs}: {target.model}"
        self._progress.reset(self._task, total=total, description=words)

    def seen(self, sample: Sample) -> None:
        """A request has ended."""
        if sample.error == CUT:
            return
        self._num_ok += sample.is_ok
        self._num_failed += not sample.is_ok
        elapsed = time.monotonic() - self._began_at
        num_done = self._num_ok + self._num_failed
        done = num_done if self._plan.expected_requests else elapsed
        words = f"run {self._run} of {self._num_runs}: {self._num_ok} ok, {self._num_failed} failed"
        self._progress.update(self._task, completed=done, description=words)

    def measured(self, result: Result) -> None:
        """A run has ended, or was cut: print it."""
        if self._num_runs > 1:
            self._out.print(f"[bold]round {result.round}[/]")
        if result.summary.distributions:
            self._out.print(report.draw_summary(result, self._plan.is_open))
        for line in report.write_lines(result.summary, self._plan):
            self._out.print(line, markup=False)
        self._out.print()

    def show_ratios(self, results: Sequence[Result]) -> None:
        """The second server over the first, round by round."""
        if ratios := report.compare(results):
            self._out.print(report.draw_ratios(ratios))
