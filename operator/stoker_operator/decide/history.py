"""What a deployment's arrivals have looked like: rates, sizes, service, and the level of need.

Knows running totals and instants; keeps a few decayed sums, so that its size is bounded and a look
costs the same after a year as after a minute. Does not know replicas or limits; the autoscaler asks
it. Decayed sums stand for windows: with the time constant τ they see what a window of 2τ sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from stoker_operator.decide.gaps import Gaps
from stoker_operator.decide.observed import ObservedDemand, Policy

FAST_S, MIDDLE_S, SLOW_S = 4.0, 15.0, 30.0
"""Time constants of the three rates: windows of about 8, 30 and 60 s."""
SIZE_SHARE = 0.005
"""Weight of one request in the mean sizes: they follow the last 200."""
SERVED_S = 120.0
"""Time constant of the learned service rate, counted only while requests wait."""
SERVED_ENOUGH = 64.0
"""Completions under a queue before the service rate is believed."""
NEED_S = 900.0
"""Time constant of the histogram of needs: about the last half hour."""
NEED_LEVELS = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """Prompt tokens of a request; zero while nobody counts them."""

    mean_tokens: float = 0.0
    variance_tokens: float = 0.0
    count: int = 0

    def with_sum(self, count: int, tokens: int) -> Sizes:
        """After `count` more requests of `tokens` in all: a sum's variance is `count` times one."""
        if not count or not tokens:
            return self
        mean = tokens / count
        if not self.mean_tokens:
            return Sizes(mean, mean * mean, count)
        seen = self.count + count
        share = min(1.0, max(SIZE_SHARE * count, count / seen))
        deviation = count * (mean - self.mean_tokens) ** 2
        return Sizes(
            self.mean_tokens + share * (mean - self.mean_tokens),
            self.variance_tokens + share * (deviation - self.variance_tokens),
            min(seen, round(1 / SIZE_SHARE)),
        )

    @property
    def variation(self) -> float:
        """Squared coefficient of variation: 0 when all are alike, 1 when exponential."""
        return self.variance_tokens / self.mean_tokens**2 if self.mean_tokens else 1.0


@dataclass(frozen=True, slots=True)
class History:
    """The bounded memory of one deployment's arrivals."""

    at: float | None = None
    """When it was last brought up to date."""
    arrivals: int = 0
    tokens: int = 0
    completed_tokens: int = 0
    """The totals seen last: only differences count, and never a negative one."""
    in_flight: int = 0
    num_seen: float = 0.0
    fast: float = 0.0
    middle: float = 0.0
    slow: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    """Of prompts."""
    outputs: Sizes = field(default_factory=Sizes)
    """Of answers."""
    served: float = 0.0
    served_replica_s: float = 0.0
    needs: tuple[float, ...] = (0.0,) * (NEED_LEVELS + 1)
    gaps: Gaps = field(default_factory=Gaps)

    def seen(self, demand: ObservedDemand, policy: Policy, now: float) -> History:
        """The history after a look at the demand; a clock that went back counts as no time."""
        if self.at is None:
            return self._begun(demand, now)
        elapsed_s = max(0.0, now - self.at)
        in_flight = demand.queued + demand.running
        if not elapsed_s and demand.arrivals == self.arrivals and in_flight == self.in_flight:
            return self
        came = max(0, demand.arrivals - self.arrivals)
        ended = max(0, self.in_flight + came - in_flight)
        tokens = max(0, demand.arrived_tokens - self.tokens)
        made = max(0, demand.completed_tokens - self.completed_tokens)
        served, served_replica_s = self._served(demand, policy.slots, ended, elapsed_s)
        return replace(
            self,
            fast=self.fast * math.exp(-elapsed_s / FAST_S) + came,
            middle=self.middle * math.exp(-elapsed_s / MIDDLE_S) + came,
            slow=self.slow * math.exp(-elapsed_s / SLOW_S) + came,
            served=served,
            served_replica_s=served_replica_s,
            at=now,
            arrivals=demand.arrivals,
            tokens=demand.arrived_tokens,
            completed_tokens=demand.completed_tokens,
            in_flight=in_flight,
            num_seen=self.num_seen + came,
            sizes=self.sizes.with_sum(came, tokens),
            outputs=self.outputs.with_sum(ended, made),
            gaps=self.gaps.seen(bool(in_flight or came), demand.active_at, now).counted(
                demand.arrivals, came, policy.cold_start_s, now
            ),
        )

    def with_need(self, level: int, elapsed_s: float) -> History:
        """The needs after `elapsed_s` more at this level."""
        if elapsed_s <= 0:
            return self
        fade = math.exp(-elapsed_s / NEED_S)
        needs = [weight * fade for weight in self.needs]
        needs[min(level, NEED_LEVELS)] += 1 - fade
        return replace(self, needs=tuple(needs))

    def rate_per_s(self) -> float:
        """Arrivals a second to be ready for: the longer windows and their noise, or a sure burst.

        With n arrivals in a window the true rate lies within n ± √n about two times of three: long
        windows are read with +√n so as not to start short, the short one with −√n so that three
        requests in a row are no burst.
        """
        rate = 0.0
        for weight, constant_s in ((self.middle, MIDDLE_S), (self.slow, SLOW_S)):
            rate = max(rate, (2 * weight + math.sqrt(2 * weight)) / (2 * constant_s))
        burst = 2 * self.fast
        if burst > 4:
            rate = max(rate, (burst - math.sqrt(burst)) / (2 * FAST_S))
        return rate if 2 * self.slow > 3 else min(rate, 0.1)

    def recent_rate_per_s(self) -> float:
        """Arrivals a second just now: the middle window, or a burst that is no noise."""
        burst = 2 * self.fast
        return max(self.middle / MIDDLE_S, (burst - math.sqrt(burst)) / (2 * FAST_S))

    def service_rate_per_s(self) -> float | None:
        """Requests a second that a full replica ends, measured; nothing before enough ended."""
        if self.served < SERVED_ENOUGH or not self.served_replica_s:
            return None
        return self.served / self.served_replica_s

    def floor(self, quantile: float) -> int:
        """Replicas that sufficed for this share of the last half hour."""
        total, passed = sum(self.needs), 0.0
        for level, weight in enumerate(self.needs):
            passed += weight
            if passed >= quantile * total:
                return level
        return NEED_LEVELS

    def _begun(self, demand: ObservedDemand, now: float) -> History:
        in_flight = demand.queued + demand.running
        gaps = self.gaps.seen(bool(in_flight), demand.active_at, now)
        return replace(
            self,
            at=now,
            arrivals=demand.arrivals,
            tokens=demand.arrived_tokens,
            completed_tokens=demand.completed_tokens,
            in_flight=in_flight,
            gaps=gaps,
        )

    def _served(
        self, demand: ObservedDemand, slots: int, ended: int, elapsed_s: float
    ) -> tuple[float, float]:
        """Completions and the replica-seconds that they took, counted while requests wait."""
        if not (demand.queued and demand.running >= slots and elapsed_s):
            return self.served, self.served_replica_s
        fade = math.exp(-elapsed_s / SERVED_S)
        replica_s = elapsed_s * demand.running / slots
        return self.served * fade + ended, self.served_replica_s * fade + replica_s
