"""Figures that stories measure: printed at once, kept in `results/figures.json`, tabled at the end.

It judges nothing: tests never assert a time. The bar stands beside the figure for the reader.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.harness.settings import REPOSITORY

RESULTS = REPOSITORY / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: what, its value in words, the bar, and how often it was measured."""

    what: str
    value: str
    bar: str
    count: int


class Figures:
    """Collects the figures of one run."""

    def __init__(self, path: Path = RESULTS / "figures.json") -> None:
        self._path = path
        self._figures: list[Figure] = []

    def note(self, what: str, value: str, bar: str, count: int = 1) -> None:
        """Keep a figure given in words."""
        self._figures.append(Figure(what, value, bar, count))
        print(f"\nfigure: {what}: {value} (bar: {bar}; n = {count})", flush=True)
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps([asdict(one) for one in self._figures], indent=1) + "\n")

    def note_seconds(self, what: str, seconds: Sequence[float], bar: str) -> None:
        """Keep a sample of seconds as median, least and most."""
        middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
        self.note(what, f"{middle:.3f} s ({least:.3f}–{most:.3f})", bar, len(seconds))

    def table(self) -> str:
        """All figures as a Markdown table."""
        rows = [f"| {one.what} | {one.value} | {one.bar} | {one.count} |" for one in self._figures]
        return "\n".join(["| what | measured | bar | n |", "|---|---|---|---|", *rows])
