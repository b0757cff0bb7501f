"""How long a deployment idles between requests, and what that says about keeping it awake.

Knows lengths of past gaps; does not know replicas. Two questions: how long to stay awake after the
last request (the time that costs least over the past gaps, as a rental against a purchase; the
histogram follows Shahrad et al., "Serverless in the Wild", ATC 2020), and when the next request is
due, where gaps are so alike that a clock could set them. Silence where they are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

EDGES_S: tuple[float, ...] = (5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900)
EDGES_S += (1200, 1800, 2700, 3600)
"""Upper edges of the histogram's bins, which are the times to stay awake that are compared."""
FADE = 0.95
"""What a gap weighs after the next one: the histogram looks back on about 20, so that it tells a
night from a day."""
HIT_SHARE = 0.1
"""Weight of the latest wake in the mean number of requests that a wake makes wait."""
ENOUGH = 5.0
"""Weight of gaps below which nothing is concluded."""
RECENT = 6
"""Long gaps whose likeness is judged."""
ALIKE = 1.25
"""The longest may be this many times the shortest."""
EARLY, LATE = 0.97, 1.1
"""Shares of the shortest and of the longest gap between which the next request is expected."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The histogram, the latest long gaps, and the gap in progress."""

    idle_at: float | None = None
    """Since when nobody asks; nothing while somebody does."""
    weights: tuple[float, ...] = (0.0,) * (len(EDGES_S) + 1)
    recent_s: tuple[float, ...] = ()
    hits: float = 1.0
    """Requests that come within a cold start after a gap: those that a wake makes wait."""
    ended: tuple[float, int] | None = None
    """When the gap ended whose requests are being counted, and how many had come before."""

    def seen(self, busy: bool, active_at: float, now: float) -> Gaps:
        """After a look: a gap begins, ends or goes on."""
        if not busy:
            if self.idle_at is not None:
                return self
            return replace(self, idle_at=min(active_at, now) or now)
        if self.idle_at is None:
            return self
        return replace(self._ended(now - self.idle_at, now), idle_at=None)

    def counted(self, arrivals: int, came: int, cold_start_s: float, now: float) -> Gaps:
        """After a look that brings the total of arrivals to this, `came` of them new."""
        if self.ended is None:
            return self
        ended_at, before = self.ended
        if before < 0:
            return replace(self, ended=(ended_at, max(0, arrivals - max(1, came))))
        if now < ended_at + cold_start_s:
            return self
        hits = self.hits + HIT_SHARE * (max(1, arrivals - came - before) - self.hits)
        return replace(self, hits=hits, ended=None)

    def keep_awake_s(self, cold_start_s: float, price: float) -> float | None:
        """Seconds after the last request that cost least; nothing where too little is known.

        Staying τ awake costs min(gap, τ); a gap that outlasts it costs a cold start, and `price`
        more of them for each request that waits for it. A gap is taken for its bin's edge.
        """
        if sum(self.weights) < ENOUGH:
            return None
        wake_s = cold_start_s * (1 + price * self.hits)
        beyond, waited_s = sum(self.weights), 0.0
        best_s, least = EDGES_S[0], math.inf
        for edge_s, weight in zip(EDGES_S, self.weights, strict=False):
            beyond -= weight
            waited_s += weight * edge_s
            cost = waited_s + beyond * (edge_s + wake_s)
            if cost < least - 1e-9:
                best_s, least = edge_s, cost
        return best_s

    def expected_s(self, cold_start_s: float) -> tuple[float, float] | None:
        """From and until when into a gap its end is expected, where gaps are alike and long."""
        if len(self.recent_s) < RECENT:
            return None
        shortest, longest = min(self.recent_s), max(self.recent_s)
        if longest > ALIKE * shortest or shortest < 4 * cold_start_s:
            return None
        return EARLY * shortest, LATE * longest

    def _ended(self, length_s: float, now: float) -> Gaps:
        if length_s < EDGES_S[0]:
            return self
        index = next((i for i, edge in enumerate(EDGES_S) if length_s <= edge), len(EDGES_S))
        weights = [weight * FADE for weight in self.weights]
        weights[index] += 1
        recent = (*self.recent_s, length_s)[-RECENT:]
        ended = self.ended or (now, -1)
        return replace(self, weights=tuple(weights), recent_s=recent, ended=ended)
