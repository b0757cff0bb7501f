"""What a wake costs: where its seconds went, and how long the next one will take.

Knows the instants that pods report and the last measured wakes; does not know who waits. The
operator shows the phases in `status.lastColdStart` and the estimate in `status.scaling.inputs`,
from which gateways take `Retry-After`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from stoker_api.status import ColdStart, ColdStartPhases

PHASES = ("decided", "scheduled", "image", "container", "imports", "weights", "firstToken")
"""In the order in which they end."""
REMEMBERED = 15
"""Wakes that the estimate looks back on."""

_SIZE = re.compile(r"(?<![0-9.])([0-9]+(?:\.[0-9]+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_GUESSES_S = ((7.5, 15.0), (13.5, 25.0), (72.5, 60.0))
UNKNOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class ColdStartHistory:
    """Seconds that the latest wakes took, oldest first."""

    totals_s: tuple[float, ...] = ()

    def with_total(self, total_s: float) -> ColdStartHistory:
        """The history with one more wake, the oldest forgotten."""
        return ColdStartHistory((*self.totals_s, total_s)[-REMEMBERED:])


def estimate_cold_start_s(history: ColdStartHistory, model: str) -> float:
    """Seconds that a wake is taken to last: the measured median, or a guess by the model's name."""
    return median(history.totals_s) if history.totals_s else guess_cold_start_s(model)


def guess_cold_start_s(model: str) -> float:
    """A guess for a model never woken: `Llama-3-8B` says 8 billion parameters, hence 25 s."""
    sizes = [float(n) * (0.001 if unit in "mM" else 1) for n, unit in _SIZE.findall(model)]
    if not sizes:
        return UNKNOWN_S
    return next((seconds for limit, seconds in _GUESSES_S if sizes[-1] <= limit), UNKNOWN_S)


def derive_cold_start(asked_at: float, instants: Mapping[str, float]) -> ColdStart:
    """The seconds of each phase of a fresh wake, from the instants at which the phases ended.

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
        path="fresh", total=round(last - asked_at, 3), phases=ColdStartPhases(**_snake(phases))
    )


def _snake(phases: Mapping[str, float]) -> dict[str, float]:
    return {("first_token" if name == "firstToken" else name): s for name, s in phases.items()}
