"""What keeping one replica awake can reach on a sparse trace: `bound.py TRACE`, four frontiers.

Knows gaps between requests and a stated replica; does not know our rules. Share of requests that
meet no wake, at replica-seconds, by what the choice of the time to stay awake knows beforehand. Of
all times the best is taken in hindsight, so each row is better than any rule that knows as much.

Why a time is all there is to choose: the sparse traces draw the gaps of ten minutes from one law
that is more uneven than chance (gamma or Weibull, coefficient of variation above 1). The longer
such a gap has lasted, the longer it will last; so who has gone to sleep never gains by waking
before the request, and the best rule that knows the law of the ten minutes is one time for them.
Only the turn of ten minutes can be told, since each draw is stretched to fill its own: waking for
every turn gave 84 instead of 81 % at 2.0 times the clairvoyant on the sparsest trace.
"""

from __future__ import annotations

import argparse
import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stoker_cli.bench.trace import Row, read_trace

TIMES_S = (5, 10, 20, 30, 45, 60, 90, 120, 150, 180, 240, 300, 450, 600)
PRICES_S = (0, 5, 10, 15, 20, 25, 30, 40, 60, 100, 300)
"""Replica-seconds that sparing one request is worth: each gives a point of a frontier."""
COLD_S, GOAL_S = 25.0, 2.0
PREFILL_TOKENS_S, STEP_S = 16000.0, 0.0083
WINDOW_S = 600.0


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence, and what a wake after it would cost."""

    at: float
    length_s: float
    met: int
    """Requests that a wake would make wait for longer than the goal."""

    def spent_s(self, awake_s: float) -> float:
        """Replica-seconds of the gap and of the wake after it."""
        return min(self.length_s, awake_s) + (COLD_S if self.length_s > awake_s else 0)

    def missed(self, awake_s: float) -> int:
        """Requests that wait for the wake."""
        return self.met if self.length_s > awake_s else 0


def find_gaps(requests: list[Row]) -> tuple[float, list[Gap]]:
    """Busy seconds of one replica that serves all, and the silences between."""
    arrivals = [request.at_s for request in requests]
    busy_s, end, gaps = 0.0, arrivals[0], []
    for index, request in enumerate(requests):
        at = request.at_s
        if at > end:
            met = bisect.bisect_left(arrivals, at + COLD_S - GOAL_S) - index
            gaps.append(Gap(end, at - end, met))
        ended = at + request.input_tokens / PREFILL_TOKENS_S + request.output_tokens * STEP_S
        busy_s += max(0.0, ended - max(end, at))
        end = max(end, ended)
    return busy_s, gaps


def frontier(groups: Iterable[list[Gap]], busy_s: float, count: int) -> list[tuple[float, float]]:
    """Percent met and replica-seconds: each group of gaps has the time that is best for it."""
    groups, points = list(groups), []
    for price_s in PRICES_S:
        spent_s, missed = busy_s, 0
        for gaps in groups:
            best = min(TIMES_S, key=lambda awake_s: _cost(gaps, awake_s, price_s))
            spent_s += sum(gap.spent_s(best) for gap in gaps)
            missed += sum(gap.missed(best) for gap in gaps)
        points.append((100 * (1 - missed / count), spent_s))
    return points


def _cost(gaps: list[Gap], awake_s: float, price_s: float) -> float:
    return sum(gap.spent_s(awake_s) + price_s * gap.missed(awake_s) for gap in gaps)


def _groups(gaps: list[Gap], key: Callable[[Gap], float]) -> list[list[Gap]]:
    groups = defaultdict(list)
    for gap in gaps:
        groups[key(gap)].append(gap)
    return list(groups.values())


def main() -> None:
    """Print the four frontiers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--clairvoyant", type=float, default=1.0, help="GPU-seconds to divide by")
    options = parser.parse_args()
    requests = read_trace(options.trace)
    busy_s, gaps = find_gaps(requests)
    rates = Counter(request.at_s // WINDOW_S for request in requests)
    knowledge = {
        "nothing": [gaps],
        "how many come in these ten minutes": _groups(gaps, lambda gap: rates[gap.at // WINDOW_S]),
        "the gaps of these ten minutes": _groups(gaps, lambda gap: gap.at // WINDOW_S),
        "each gap": [[gap] for gap in gaps],
    }
    for name, groups in knowledge.items():
        points = dict.fromkeys(frontier(groups, busy_s, len(requests)))
        cells = (f"{met:.1f} @ {spent / options.clairvoyant:.3g}" for met, spent in points)
        print(f"knows {name}: {', '.join(cells)}")


if __name__ == "__main__":
    main()
