"""How many standbys a pool keeps: a newsvendor between waiting pods and missed wakes.

Knows the rate of wakes, what a standby saves each, how long a new one takes, and the bounds; does
not know pods or deployments.

Each wake takes a standby, and a new one is ready a refill time later; a wake that finds none starts
fresh. That is an inventory of S with lost sales, whose share of misses is Erlang's loss formula
B(S, rate × refill time) (Karush, "A queuing model for an inventory problem", 1957). The size is the
S that costs least: what S standbys block, and what the misses wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stoker_api.conditions import Reason, format_instant
from stoker_api.status import PoolSizing, PoolWakes
from stoker_operator.decide.observed import MISS_PRICE

MEMORY_S = 1800.0
"""Wakes are remembered with this time constant."""
LOOK_S = 60.0
"""How often a size above the minimum is looked at again, for wakes are forgotten by and by."""
GPU_SHARE, CPU_SHARE = 1.0, 0.1
"""What a standby blocks of a replica: its whole GPU, or only memory where there is none."""
GUESSED_REFILL_S = 15.0
"""What a new standby takes before one was measured."""
STAY = 0.9
"""Another size has to cost less than this share of the present one's."""
_REMEMBERED = 15


@dataclass(frozen=True, slots=True)
class WakeHistory:
    """What a pool remembers of wakes: decayed sums, and the latest refills."""

    at: float = 0.0
    wakes: float = 0.0
    saved_s: float = 0.0
    """Seconds that a standby saves, summed over the wakes."""
    refills_s: tuple[float, ...] = ()

    def with_wakes(self, count: int, saved_s: float, now: float) -> WakeHistory:
        """The history with `count` more wakes, each of which a standby shortens by `saved_s`."""
        kept = self.decayed(now)
        saved = kept.saved_s + count * max(0.0, saved_s)
        return replace(kept, wakes=kept.wakes + count, saved_s=saved)

    def with_refill(self, seconds: float) -> WakeHistory:
        """The history with one more measured refill."""
        return replace(self, refills_s=(*self.refills_s, seconds)[-_REMEMBERED:])

    def decayed(self, now: float) -> WakeHistory:
        """The same, looked at now."""
        share = math.exp(-max(0.0, now - self.at) / MEMORY_S)
        return replace(
            self,
            at=max(now, self.at),
            wakes=self.wakes * share,
            saved_s=self.saved_s * share,
        )

    @property
    def refill_s(self) -> float:
        """What a refill takes: the median of those measured."""
        measured = sorted(self.refills_s)
        return measured[len(measured) // 2] if measured else GUESSED_REFILL_S


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """What the spec allows."""

    least: int
    most: int
    share: float
    """What one standby blocks, in replicas."""


def decide_pool_size(
    policy: PoolPolicy, history: WakeHistory, present: int, now: float
) -> PoolSizing:
    """The number of standbys wanted now; `present` is the number wanted before."""
    seen = history.decayed(now)
    costs = {size: _cost_per_s(policy, seen, size) for size in range(policy.least, policy.most + 1)}
    best = min(costs, key=lambda size: (costs[size], size))
    if present in costs and costs[best] >= STAY * costs[present]:
        best = present
    reason, words = _explain(policy, seen, best)
    return PoolSizing(
        desired=best,
        reason=reason,
        message=words,
        wakes_per_hour=round(seen.wakes / MEMORY_S * 3600, 1),
        refill_seconds=round(seen.refill_s, 1) if seen.refills_s else None,
    )


def record_wakes(history: WakeHistory) -> PoolWakes | None:
    """What `status.wakes` keeps of the history: it changes with what happens, not with time."""
    if not history.wakes and not history.refills_s:
        return None
    return PoolWakes(
        at=format_instant(history.at),
        wakes=round(history.wakes, 3),
        saved_seconds=round(history.saved_s, 1),
        refills=[round(seconds, 1) for seconds in history.refills_s],
    )


def recall_wakes(kept: PoolWakes, at: float) -> WakeHistory:
    """The history that a status kept; `at`: its instant in seconds. What passed since counts."""
    return WakeHistory(at, kept.wakes, kept.saved_seconds, tuple(kept.refills[-_REMEMBERED:]))


def derive_loss(size: int, load: float) -> float:
    """Erlang's B: the share of wakes that find none of `size` standbys; `load` in refill times.

    With 2 standbys and one wake in each refill time it is 1/2 / (1 + 1 + 1/2) = 0.2.
    """
    loss = 1.0
    for number in range(1, size + 1):
        loss = load * loss / (number + load * loss)
    return loss


def _cost_per_s(policy: PoolPolicy, seen: WakeHistory, size: int) -> float:
    """Replica-seconds a second."""
    missed = derive_loss(size, seen.wakes / MEMORY_S * seen.refill_s)
    return policy.share * size + MISS_PRICE * seen.saved_s / MEMORY_S * missed


def _explain(policy: PoolPolicy, seen: WakeHistory, size: int) -> tuple[Reason, str]:
    rate = f"{seen.wakes / MEMORY_S * 3600:.1f} wakes an hour, {seen.refill_s:.0f} s to refill"
    if size == policy.least:
        return Reason.POOL_MINIMUM, f"size.min {size} suffices for {rate}."
    unbounded = replace(policy, most=size + 1)
    if size == policy.most and _cost_per_s(unbounded, seen, size + 1) < _cost_per_s(
        policy, seen, size
    ):
        return Reason.POOL_MAXIMUM, f"size.max is {size}; {rate} would pay for more."
    return Reason.WAKE_RATE, f"{rate}: {size} standbys cost least."
