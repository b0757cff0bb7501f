"""Request traces by stated laws, which no constant was chosen on: the autoscaler's second opinion.

Knows laws of arrival and of lengths, and the CSV form of traces; a seed gives the same trace on any
machine. `run.py --synthetic` writes them and runs the bench over them.
"""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

HOUR_S = 3600.0

Rate = Callable[[float], float]
"""Requests a second at an instant."""


def arrive(rate: Rate, most: float, span_s: float, draw: random.Random) -> Iterator[float]:
    """A Poisson process whose rate varies, by thinning one of the rate `most`."""
    now = draw.expovariate(most)
    while now < span_s:
        if draw.random() * most < rate(now):
            yield now
        now += draw.expovariate(most)


def _on_off(on_s: float, off_s: float, rate: float, span_s: float) -> Rate:
    """Bursts and silences of exponential lengths."""
    draw, edges, now = random.Random(7), [], 0.0
    while now < span_s:
        now += draw.expovariate(1 / off_s)
        ended = now + draw.expovariate(1 / on_s)
        edges.append((now, ended))
        now = ended
    return lambda at: rate if any(begun <= at < ended for begun, ended in edges) else 0.0


def _ramp(now: float) -> float:
    """From nothing to 40 a second and back, in three hours."""
    return 40 * max(0.0, 1 - abs(now / (1.5 * HOUR_S) - 1))


def laws() -> dict[str, tuple[Iterator[float], random.Random]]:
    """Instants of arrival by the name of the law, each with its own source of chance."""
    day = 24 * HOUR_S
    burst = _on_off(120, 1800, 12.0, day)
    rates: dict[str, tuple[Rate, float, float]] = {
        "poisson_per_hour": (lambda _: 1 / HOUR_S, 1 / HOUR_S, 3 * day),
        "poisson_per_5min": (lambda _: 1 / 300, 1 / 300, 2 * day),
        "poisson_per_minute": (lambda _: 1 / 60, 1 / 60, day),
        "poisson_1_per_s": (lambda _: 1.0, 1.0, 6 * HOUR_S),
        "poisson_20_per_s": (lambda _: 20.0, 20.0, HOUR_S),
        "diurnal": (lambda now: 2 - 2 * math.cos(2 * math.pi * now / day), 4.0, day),
        "office": (lambda now: 0.05 if 8 <= now / HOUR_S % 24 < 18 else 0.0, 0.05, 3 * day),
        "on_off": (burst, 12.0, day),
        "ramp": (_ramp, 40.0, 3 * HOUR_S),
    }
    found = {}
    for seed, (name, (rate, most, span_s)) in enumerate(rates.items()):
        draw = random.Random(seed)
        found[name] = (arrive(rate, most, span_s, draw), draw)
    found["hourly"] = (iter([HOUR_S * (i + 1) for i in range(71)]), random.Random(99))
    return found


def write(folder: Path) -> str:
    """All traces into the folder, as a glob. Lengths are lognormal: 500 tokens in, 120 out."""
    for name, (arrivals, draw) in laws().items():
        with gzip.open(folder / f"{name}.csv.gz", "wt", newline="") as lines:
            rows = csv.writer(lines)
            rows.writerow(("arrival_s", "input_tokens", "output_tokens"))
            for at in arrivals:
                sizes = (draw.lognormvariate(math.log(mean) - 0.32, 0.8) for mean in (500, 120))
                rows.writerow((f"{at:.3f}", *(max(1, round(size)) for size in sizes)))
    return str(folder / "*.csv.gz")
