"""Histograms in Prometheus' text, and the bounds of their buckets.

Knows vLLM's bounds, so that dashboards and alerts made for it fit; does not know what is measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

_MS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08)
_TENTHS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4)
_MINUTES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_HOURS = (120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
_QUARTERS = (0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
TTFT_S = (*_MS, 0.1, 0.25, *_QUARTERS, 160.0, 640.0, 2560.0)
STEP_S = (*_TENTHS, *_QUARTERS)
REQUEST_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, *_MINUTES, *_HOURS)
TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)


class Histogram:
    """Observations counted by upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count nothing yet."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def take_over(self, counts: Sequence[int], total: float) -> None:
        """Counts that were made elsewhere: one per bound, and one beyond; `total` is the sum."""
        if len(counts) == len(self._counts):
            self._counts, self._sum = list(counts), total

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The series, cumulative as Prometheus wants them."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum}"
        yield f"{name}_count{{{labels}}} {total}"
