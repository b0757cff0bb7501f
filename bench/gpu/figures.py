"""What was measured, as it becomes known: one file of JSON lines a part, and the table of all.

Knows names, values and goals; does not know how anything is measured. A part whose file has its
last line is done and is not measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_DONE = {"done": True}


@dataclass(frozen=True)
class Figure:
    """One number."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    wants_less: bool = False
    """The goal is a most, not a least."""

    @property
    def ratio(self) -> float | None:
        """1 or more is reached."""
        if self.goal is None or not self.value:
            return None
        return self.goal / self.value if self.wants_less else self.value / self.goal


@dataclass(frozen=True)
class Journal:
    """A folder with what the parts of one run have found."""

    folder: Path

    def read(self, part: str) -> tuple[list[Figure], bool]:
        """What is known of a part, and whether it is all."""
        path = self._path(part)
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [Figure(**one) for one in found if one != _DONE], _DONE in found

    def begin(self, part: str) -> None:
        """Forget what a part that was cut off has found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(part).write_text("")

    def add(self, part: str, figure: Figure) -> None:
        """Keep a figure."""
        self._write(part, asdict(figure))

    def finish(self, part: str) -> None:
        """Nothing more will come."""
        self._write(part, _DONE)

    def find(self, part: str, name: str) -> float:
        """The value of a figure, 0 if it is not known."""
        return next((one.value for one in self.read(part)[0] if one.name == name), 0.0)

    def _write(self, part: str, line: dict[str, object]) -> None:
        with self._path(part).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _path(self, part: str) -> Path:
        return self.folder / f"{part}.jsonl"


def tabulate(figures: Iterable[Figure]) -> str:
    """A markdown table: figure, value, goal, value over goal."""
    rows = ["| figure | value | goal | reached |", "|---|---|---|---|"]
    for one in figures:
        goal = "" if one.goal is None else f"{'≤' if one.wants_less else '≥'} {one.goal:g}"
        reached = "" if one.ratio is None else f"{one.ratio:.2f}"
        rows.append(f"| {one.name} | {one.value:.4g} {one.unit} | {goal} | {reached} |")
    return "\n".join(rows)
