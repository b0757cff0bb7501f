"""How fast a deployment's replicas are, learned from what its runtimes report.

Knows the reports of one template; does not know pods or who measures. The operator shows the result
in `status.speed`, from which a restarted one goes on, and sizes deployments by it (`capacity`).
The median of the last few reports is believed: one odd pod moves nothing, a lasting change does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from stoker_api.demand import Announcement
from stoker_api.status import ReplicaSpeed
from stoker_operator.decide.replica import ReplicaModel

REMEMBERED = 5
"""Reports that the estimate looks back on; runtimes report when their speed has changed by 10 %."""
WORTH_TELLING = 1.1
"""Ratio of a figure to the one told before, from which on it is told."""
MOST_CACHED = 0.95
"""Share of prompts that is believed to come from caches: a new replica's cache is empty."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one runtime measured, in seconds."""

    step_s: float
    token_s: float
    """Of a prompt's token as they come, those found in the cache included."""
    seq_s: float
    chunk_tokens: int


@dataclass(frozen=True, slots=True)
class SpeedHistory:
    """The latest reports, oldest first."""

    template: str = ""
    """What the reporting pods were made from: another one may be another machine."""
    reports: tuple[Report, ...] = ()

    def of(self, template: str) -> SpeedHistory:
        """The same, or a new one where pods are made from something else now."""
        return self if template == self.template else SpeedHistory(template)

    def with_report(self, report: Report) -> SpeedHistory:
        """The history with one more report, the oldest forgotten."""
        return SpeedHistory(self.template, (*self.reports, report)[-REMEMBERED:])

    @property
    def estimate(self) -> Report | None:
        """The median of each figure."""
        if not self.reports:
            return None

        def middle(figure: Callable[[Report], float]) -> float:
            return median(figure(report) for report in self.reports)

        return Report(
            middle(lambda one: one.step_s),
            middle(lambda one: one.token_s),
            middle(lambda one: one.seq_s),
            round(middle(lambda one: one.chunk_tokens)),
        )


def read_report(announced: Announcement) -> Report | None:
    """What an announcement says of its runtime's speed."""
    speed, cache = announced.speed, announced.cache
    if speed is None:
        return None
    missed = 1 - min(cache.hit_share if cache is not None else 0.0, MOST_CACHED)
    return Report(speed.step_s, speed.token_s * missed, speed.seq_s, speed.chunk_tokens)


def derive_model(history: SpeedHistory) -> ReplicaModel | None:
    """The replica that the autoscaler plans with. Nobody states a goal for the time of a token in
    a spec: it may take what it takes where all slots are used."""
    known = history.estimate
    if known is None:
        return None
    return ReplicaModel(
        prefill_tokens_s=1 / known.token_s,
        step_s=known.step_s,
        step_per_seq_s=known.seq_s,
        chunk_tokens=known.chunk_tokens,
        token_goal_s=math.inf,
    )


def record_speed(before: ReplicaSpeed | None, history: SpeedHistory) -> ReplicaSpeed | None:
    """What `status.speed` says: as before until a figure has changed by a tenth."""
    known = history.estimate
    if known is None:
        return before if before is not None and before.template == history.template else None
    after = ReplicaSpeed(
        template=history.template,
        reports=len(history.reports),
        prefill_tokens_per_second=_round(1 / known.token_s),
        step_seconds=_round(known.step_s),
        seconds_per_sequence=_round(known.seq_s),
        chunk_tokens=known.chunk_tokens,
    )
    return before if before is not None and _tells_the_same(before, after) else after


def recall_speed(kept: ReplicaSpeed | None) -> SpeedHistory:
    """The history that a status kept: as many reports, all alike."""
    if kept is None or kept.prefill_tokens_per_second <= 0:
        return SpeedHistory()
    token_s = 1 / kept.prefill_tokens_per_second
    report = Report(kept.step_seconds, token_s, kept.seconds_per_sequence, kept.chunk_tokens)
    return SpeedHistory(kept.template, (report,) * min(kept.reports, REMEMBERED))


def _tells_the_same(before: ReplicaSpeed, after: ReplicaSpeed) -> bool:
    if (before.template, before.chunk_tokens) != (after.template, after.chunk_tokens):
        return False
    pairs = (
        (before.prefill_tokens_per_second, after.prefill_tokens_per_second),
        (before.step_seconds, after.step_seconds),
        (before.seconds_per_sequence, after.seconds_per_sequence),
    )
    full = before.reports >= min(after.reports, REMEMBERED)
    return full and all(max(pair) <= WORTH_TELLING * min(pair) for pair in pairs)


def _round(figure: float) -> float:
    """To three digits: more is noise."""
    return float(f"{figure:.3g}")
