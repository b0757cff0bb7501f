"""What a deployment's arrivals have looked like: rates, sizes, service, gaps and wakes.

Knows running totals and instants; keeps a few decayed sums, so that its size is bounded and a look
costs the same after a year as after a minute. Does not know replicas or limits; the autoscaler asks
it. Decayed sums stand for windows: with the time constant τ they see what a window of 2τ sees.
Three of them are measured in cold starts: what is ordered now helps a cold start from now, when
what lasts shorter is over, and noise is told from change by looking back on several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from stoker_operator.decide.gaps import EDGES_S, Gaps
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.wakes import Wakes

FAST_S = 4.0
"""Time constant of the shortest window, about 8 s: it shows bursts."""
SLOW, LONG = 4.0, 16.0
"""Time constants of the two long windows, in those of the middle one, which sees a cold start."""
SURE = 3.0
"""Standard deviations from which a shorter window contradicts a longer one."""
SIZE_SHARE = 0.002
"""Weight of one request in the mean sizes: they follow the last 500, for the spread of long prompts
takes hundreds of them to tell."""
SERVED_S = 120.0
"""Time constant of the learned service rate, counted only while requests wait."""
SERVED_ENOUGH = 64.0
"""Completions under a queue before the service rate is believed."""
LEAST_FILLED = 1 - math.exp(-1.0 / FAST_S)
"""A burst is measured over one second at least."""


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
    filled: float = 1.0
    """Share of the short window that the arrivals since the last gap have had time to fill."""
    fast: float = 0.0
    middle_s: float = 15.0
    """Time constant of the middle window: half of a cold start, never less than the shortest. Sums
    are scaled when it changes, so that a wake that was measured leaves the rate what it was."""
    begun_at: float = 0.0
    """When requests came after a silence of a cold start, which ends what longer windows know."""
    middle: float = 0.0
    slow: float = 0.0
    long: float = 0.0
    sizes: Sizes = field(default_factory=Sizes)
    """Of prompts."""
    outputs: Sizes = field(default_factory=Sizes)
    """Of answers."""
    served: float = 0.0
    served_replica_s: float = 0.0
    gaps: Gaps = field(default_factory=Gaps)
    wakes: Wakes = field(default_factory=Wakes)

    def seen(
        self, policy: Policy, demand: ObservedDemand, now: float, asleep: bool = False
    ) -> History:
        """The history after a look at the demand; a clock that went back counts as no time.

        `asleep` says that nothing ran for those that came.
        """
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
        middle_s, wake_s = max(FAST_S, policy.cold_start_s / 2), policy.wake_s
        busy, gaps = bool(in_flight or came), self.gaps
        decay = math.exp(-elapsed_s / FAST_S)
        silent_s = now - gaps.idle_at if busy and gaps.idle_at is not None else 0.0
        begun, anew = silent_s >= EDGES_S[0], silent_s >= 2 * middle_s
        fade, grown = math.exp(-elapsed_s / (LONG * middle_s)), middle_s / self.middle_s
        middle = self.middle * grown * fade**LONG
        slow = middle if anew else self.slow * grown * fade ** (LONG / SLOW)
        long = middle if anew else self.long * grown * fade
        return History(
            at=now,
            arrivals=demand.arrivals,
            tokens=demand.arrived_tokens,
            completed_tokens=demand.completed_tokens,
            in_flight=in_flight,
            filled=LEAST_FILLED if begun else 1 - (1 - self.filled) * decay,
            begun_at=now if anew else self.begun_at,
            fast=self.fast * decay + came,
            middle_s=middle_s,
            middle=middle + came,
            slow=slow + came,
            long=long + came,
            sizes=self.sizes.with_sum(came, tokens),
            outputs=self.outputs.with_sum(ended, made),
            served=served,
            served_replica_s=served_replica_s,
            gaps=gaps.seen(busy, demand.active_at, now).counted(demand.arrivals, came, wake_s, now),
            wakes=self.wakes.seen(came, wake_s if asleep else None, now),
        )

    def rate_per_s(self) -> float:
        """Arrivals a second to be ready for.

        The rate of the longest window, moved only as far as shorter ones contradict it: steady
        traffic is read over minutes, a change within a cold start (the idea of ADWIN, Bifet and
        Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007). A shortage
        lasts for a cold start: one standard deviation of what comes in it is added. Of a burst,
        what its few seconds prove counts: three requests in a row do not.
        """
        came, window_s = self._window(self.long, LONG)
        rate = came / window_s
        rate = _moved_per_s(rate, *self._window(self.slow, SLOW))
        rate = _moved_per_s(rate, 2 * self.middle, 2 * self.middle_s)
        rate += math.sqrt(rate / (2 * self.middle_s))
        if self.slow <= 3:
            return min(rate, 0.1)
        return max(rate, _moved_per_s(rate, *_seen_in(self.fast, FAST_S, self.filled)))

    def recent_rate_per_s(self) -> float:
        """Arrivals a second just now: the middle window, or a burst that is no noise."""
        return max(self.middle / self.middle_s, self.burst_per_s())

    def burst_per_s(self) -> float:
        """Arrivals a second of a burst that is no noise, from the first second after a gap on."""
        came, window_s = _seen_in(self.fast, FAST_S, self.filled)
        return (came - math.sqrt(came)) / window_s if came > 4 else 0.0

    def _window(self, came: float, length: float) -> tuple[float, float]:
        """What came in how many seconds of a long window, which fills from the beginning on."""
        since_s = max(2 * self.middle_s, (self.at or 0.0) - self.begun_at)
        time_s = length * self.middle_s
        return _seen_in(came, time_s, 1 - math.exp(-since_s / time_s))

    def service_rate_per_s(self) -> float | None:
        """Requests a second that a full replica ends, measured; nothing before enough ended."""
        if self.served < SERVED_ENOUGH or not self.served_replica_s:
            return None
        return self.served / self.served_replica_s

    def _begun(self, demand: ObservedDemand, now: float) -> History:
        in_flight = demand.queued + demand.running
        gaps = self.gaps.seen(bool(in_flight), demand.active_at, now)
        return replace(
            self,
            at=now,
            begun_at=now,
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


def _seen_in(came: float, time_s: float, filled: float) -> tuple[float, float]:
    """Requests and seconds: a window 2τ that filled to the share f holds those of 2τf / (2 - f)."""
    return 2 * came / (2 - filled), 2 * time_s * filled / (2 - filled)


def _moved_per_s(rate: float, came: float, window_s: float) -> float:
    """The rate, moved to the nearest of which this count is within `SURE` deviations."""
    expected = rate * window_s
    if (came - expected) ** 2 <= SURE**2 * expected:
        return rate
    width = SURE * math.sqrt(came + SURE**2 / 4)
    return (came + SURE**2 / 2 + (width if came < expected else -width)) / window_s
