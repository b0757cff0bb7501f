"""How many requests met a wake lately, and what sparing the next one is therefore worth.

Knows when requests came and whether anything ran then; does not know gaps or replicas. The goal is
that `GOAL` of a day's requests meet no wake. Idling is bought at a price for each request spared,
and the price follows the goal: low while it is held with ease, at the limit where it is missed.
So a busy model, of whose requests few ever meet a wake, sleeps early; a sparse one stays awake for
as long as the goal needs; one whose requests come too rarely to be spared stops at the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

GOAL = 0.95
"""Share of the requests that should not meet a wake."""
LEAST_SHARE = 0.1
"""The price never falls below this share of its limit: a goal held with ease is no reason to make
anybody wait for nothing."""
DAY_S = 86400.0
"""Time constant of the memory."""
PRIOR = 20.0
"""Requests without evidence, taken as just at the goal: a new deployment begins at the limit."""


@dataclass(frozen=True, slots=True)
class Wakes:
    """Decayed counts of the requests that came, and of those that had to wait for a wake."""

    came: float = 0.0
    waited: float = 0.0
    at: float = 0.0
    """When requests last came."""
    until: float = 0.0
    """When the last wake was over, as far as was known when it began."""

    def seen(self, came: int, wake_s: float | None, now: float) -> Wakes:
        """After a look at which `came` requests are new; `wake_s` where nothing ran for them."""
        if not came:
            return self
        fade = math.exp(-max(0.0, now - self.at) / DAY_S)
        until = self.until if wake_s is None else now + wake_s
        waited = came if now < until else 0
        return Wakes(self.came * fade + came, self.waited * fade + waited, now, until)

    def price(self, limit: float) -> float:
        """What sparing one request a wake is worth, in cold starts, at most `limit`."""
        missing = 1 - GOAL
        share = (self.waited + PRIOR * missing) / (self.came + PRIOR)
        return limit * min(1.0, max(LEAST_SHARE, share / missing))
