"""The one quantile that all processes and commands mean.

Knows numbers; pure.
"""

from __future__ import annotations

from collections.abc import Iterable


def pick_quantile(values: Iterable[float], share: float) -> float:
    """The quantile of at least one value, 0 ≤ share ≤ 1, between neighbours on a straight line.

    Type 7 of Hyndman and Fan (1996), which numpy takes too. Example: the 0.9 of [1, 2, 3] lies at
    place 0.9 · 2 = 1.8, that is 2.8.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
