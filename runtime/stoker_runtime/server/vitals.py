"""What a ready runtime tells of itself beside its phase: its speed, and what its cache is worth.

Knows the engine's reports and which change is worth an announcement; does not know who listens. The
operator sizes deployments by the speed, and lets the pod go first whose cache is missed least.
"""

from __future__ import annotations

from stoker_runtime.wire import Speed, Stats

PAUSE_S = 10.0
"""Between two announcements that tell nothing else."""
NEWS = 1.1
"""Ratio between steps' times then and now from which on it is news."""
WARMTH_NEWS = 2.0
"""The same of the worth of the cache, which decides only which of several pods goes."""
WARMTH_TOKENS = 256
"""A cache of less is as good as empty."""
SHARE_TOKENS = 100_000
"""Prompt tokens over which the share found in the cache is averaged."""


class Vitals:
    """The engine's last report, and what was told of it."""

    def __init__(self) -> None:
        self._stats: Stats | None = None
        self._told: Stats | None = None
        self._told_at = 0.0
        self._hit_share = 0.0
        self._queries = self._hits = 0

    def note(self, stats: Stats) -> None:
        """A new report."""
        queries, hits = stats.prefix_queries - self._queries, stats.prefix_hits - self._hits
        if queries > 0:
            weight = queries / min(stats.prefix_queries, queries + SHARE_TOKENS)
            self._hit_share += weight * (min(1.0, hits / queries) - self._hit_share)
        self._queries, self._hits = stats.prefix_queries, stats.prefix_hits
        self._stats = stats

    def take_news(self, now: float) -> bool:
        """Whether there is something to announce now, which then counts as told (seconds of any
        clock)."""
        stats, told = self._stats, self._told
        if stats is None or (told is not None and now < self._told_at + PAUSE_S):
            return False
        before = told or Stats(0, 0, 0, 0, 0, 0, 0)
        if not self._differs(before, stats):
            return False
        self._told, self._told_at = stats, now
        return True

    def render(self) -> dict[str, object]:
        """The fields of an announcement; none before the first report."""
        stats = self._stats
        if stats is None:
            return {}
        cache = {"tokens": stats.cached_tokens, "hit_share": round(self._hit_share, 4)}
        return {"steps": stats.steps, "speed": stats.speed, "cache": cache}

    def _differs(self, before: Stats, after: Stats) -> bool:
        if before.speed != after.speed and _drifted(before.speed, after.speed):
            return True
        held = [max(one.cached_tokens, WARMTH_TOKENS) for one in (before, after)]
        return max(held) >= WARMTH_NEWS * min(held)


def _drifted(before: Speed | None, after: Speed | None) -> bool:
    """Whether one of three typical steps takes longer or shorter by then."""
    if before is None or after is None:
        return True
    for num_tokens, num_rows in ((0, 1), (0, 32), (before.chunk_tokens, 0)):
        took = [s.step_s + s.token_s * num_tokens + s.seq_s * num_rows for s in (before, after)]
        if max(took) > NEWS * min(took):
            return True
    return False
