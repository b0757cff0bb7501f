"""When requests are sent in an open loop, whether or not earlier ones were answered.

Knows the laws of the gaps between arrivals; does not know requests or clocks. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

_STEADY = 1e-3
"""Gaps that vary less than this are all the same to anybody."""


def draw_arrivals(rate: float, burstiness: float, rng: Random) -> Iterator[float]:
    """Seconds since the start, without end, the first at 0; `rate` in requests/s.

    Burstiness is the coefficient of variation c of the gaps, which follow a gamma law of shape
    1/c² and mean 1/rate: 0 is a constant rate, 1 is Poisson, more comes in bursts. Raises
    `ValueError` for a rate that is not above 0 or a burstiness below 0.
    """
    if not 0 < rate < float("inf"):
        raise ValueError(f"the rate must be above 0, was {rate}")
    if not 0 <= burstiness < float("inf"):
        raise ValueError(f"the burstiness must be at least 0, was {burstiness}")
    return _steady(rate) if burstiness < _STEADY else _random(rate, burstiness, rng)


def _steady(rate: float) -> Iterator[float]:
    number = 0
    while True:
        yield number / rate
        number += 1


def _random(rate: float, burstiness: float, rng: Random) -> Iterator[float]:
    at, shape = 0.0, 1 / burstiness**2
    while True:
        yield at
        at += rng.gammavariate(shape, 1 / (shape * rate))
