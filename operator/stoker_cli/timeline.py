"""The timeline of a wake: what each phase of a cold start took, as rows and as a table of bars.

Knows the phases' order and how to draw them; does not know where the figures come from. Pure;
`stoker chat`, `stoker why` and the demo call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

_PHASES = {
    "decided": "queued → decided",
    "scheduled": "pod scheduled",
    "image": "image pulled",
    "container": "container runs",
    "imports": "imports done",
    "weights": "weights read",
    "firstToken": "first token",
}
_BAR_CELLS = 28


@dataclass(frozen=True, slots=True)
class Row:
    """One phase: its words, when it began and how long it took, in seconds."""

    words: str
    start_s: float
    duration_s: float


def build_rows(phases: Mapping[str, float]) -> list[Row]:
    """Rows in the order of a wake from durations in seconds; unknown phases come last."""
    names = [name for name in _PHASES if name in phases]
    names += [name for name in phases if name not in _PHASES]
    rows, at = [], 0.0
    for name in names:
        rows.append(Row(_PHASES.get(name, name), at, phases[name]))
        at += phases[name]
    return rows


def draw_bar(row: Row, total_s: float, cells: int = _BAR_CELLS) -> str:
    """The row's share of the whole: blanks up to its start, then at least one mark."""
    if total_s <= 0:
        return ""
    start = min(cells - 1, round(row.start_s / total_s * cells))
    width = max(1, round(row.duration_s / total_s * cells))
    return " " * start + "█" * min(width, cells - start)


def draw_timeline(phases: Mapping[str, float], path: str, total_s: float) -> Table:
    """A table with a bar per phase, and the whole below."""
    table = Table(title=f"wake ({path})", title_justify="left", box=None, padding=(0, 1))
    table.add_column("phase", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in build_rows(phases):
        table.add_row(row.words, f"{row.duration_s:.3f}", draw_bar(row, total_s))
    table.add_row("arrival → first token", f"{total_s:.3f}", "", style="bold")
    return table
