"""Times work on a GPU by its own events; on a processor, for dry runs, by a clock.

Knows events and medians; does not know what is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

WARM_UPS, ROUNDS = 3, 20


def measure_s(work: Callable[[int], object]) -> float:
    """The median time of `work(round)`; it may take other inputs each round."""
    if not torch.cuda.is_available():
        return _clock(work)
    for number in range(WARM_UPS):
        work(number)
    times = []
    for number in range(ROUNDS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work(number)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def measure_replayed_s(work: Callable[[], object], repeats: int = 20) -> float:
    """The time of one of `repeats` calls within a graph: without what the host takes to launch."""
    if not torch.cuda.is_available():
        return _clock(lambda _: work())
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    return measure_s(lambda _: graph.replay()) / repeats


def _clock(work: Callable[[int], object]) -> float:
    started = time.perf_counter()
    work(0)
    return time.perf_counter() - started
