"""What a wake costs: where its seconds went, and how long the next one will take.

Knows the instants that pods report and the last measured wakes of each path; does not know who
waits. The operator shows the phases in `status.lastColdStart`, keeps the measured totals in
`status.coldStarts`, from which a restarted operator goes on, and takes lead times, `Retry-After`
and hold deadlines from the estimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stoker_api.quantile import pick_quantile
from stoker_api.status import ColdStart, ColdStartPhases, ColdStartRecord
from stoker_api.wake import PATHS
from stoker_operator.decide.size import parameters_of

PHASES = ("decided", "scheduled", "image", "container", "imports", "weights", "firstToken")
"""In the order in which they end."""
REMEMBERED = 15
"""Wakes of each path that the estimate looks back on."""
SPEEDUP = {"fresh": 1.0, "warm": 0.25, "resident": 1 / 16}
"""What a path is taken to cost, in fresh wakes, before it was measured (budget: 8, 2, 0.5 s)."""

_GUESSES_S = ((7.5, 15.0), (13.5, 25.0), (72.5, 60.0))
UNKNOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class ColdStartHistory:
    """Seconds that the latest wakes took, by path, oldest first."""

    totals_s: tuple[float, ...] = ()
    """Of fresh wakes."""
    warm_s: tuple[float, ...] = ()
    resident_s: tuple[float, ...] = ()

    def with_total(self, total_s: float, path: str = "fresh") -> ColdStartHistory:
        """The history with one more wake, the oldest of its path forgotten."""
        by_path = {known: self.of(known) for known in PATHS}
        if path in by_path:
            by_path[path] = (*by_path[path], total_s)[-REMEMBERED:]
        return ColdStartHistory(*(by_path[known] for known in PATHS))

    def of(self, path: str) -> tuple[float, ...]:
        """The totals of one path."""
        return {"fresh": self.totals_s, "warm": self.warm_s}.get(path, self.resident_s)


def estimate_cold_start_s(
    history: ColdStartHistory, model: str, path: str = "fresh", quantile: float = 0.5
) -> float:
    """Seconds that a wake is taken to last: a quantile of what was measured, or a guess.

    A path never measured is taken as its share of a fresh wake, measured or guessed by the name.
    """
    measured = history.of(path)
    if measured:
        return pick_quantile(measured, quantile)
    fresh = history.totals_s
    return SPEEDUP[path] * (pick_quantile(fresh, quantile) if fresh else guess_cold_start_s(model))


def record_cold_starts(history: ColdStartHistory) -> list[ColdStartRecord]:
    """What `status.coldStarts` keeps of the history."""
    return [
        ColdStartRecord(
            path=path,
            count=len(history.of(path)),
            median=round(pick_quantile(history.of(path), 0.5), 3),
            p90=round(pick_quantile(history.of(path), 0.9), 3),
            totals=[round(total, 3) for total in history.of(path)],
        )
        for path in PATHS
        if history.of(path)
    ]


def recall_cold_starts(
    records: Iterable[ColdStartRecord], last: ColdStart | None
) -> ColdStartHistory:
    """The history that a status kept; one of an older operator kept the last wake only."""
    history = ColdStartHistory()
    for record in records:
        for total in record.totals:
            history = history.with_total(total, record.path)
    if history == ColdStartHistory() and last is not None:
        return history.with_total(last.total, last.path)
    return history


def guess_cold_start_s(model: str) -> float:
    """A guess for a model never woken: `Llama-3-8B` says 8 billion parameters, hence 25 s."""
    billions = parameters_of(model)
    if billions is None:
        return UNKNOWN_S
    return next((seconds for limit, seconds in _GUESSES_S if billions <= limit), UNKNOWN_S)


def derive_cold_start(
    asked_at: float, instants: Mapping[str, float], path: str = "fresh"
) -> ColdStart:
    """The seconds of each phase of a wake, from the instants at which the phases ended.

    A phase without an instant is absent and its seconds fall to the next one. Clocks of nodes may
    disagree: a phase that ends before its predecessor counts as 0, and the next goes on from there.
    """
    phases: dict[str, float] = {}
    last = asked_at
    for phase in PHASES:
        ended = instants.get(phase)
        if ended is None:
            continue
        phases[phase] = round(max(0.0, ended - last), 3)
        last = max(last, ended)
    return ColdStart(
        path=path, total=round(last - asked_at, 3), phases=ColdStartPhases(**_snake(phases))
    )


def _snake(phases: Mapping[str, float]) -> dict[str, float]:
    return {("first_token" if name == "firstToken" else name): s for name, s in phases.items()}
