"""Times work on a GPU, with inputs that no cache has seen, and measures what the card can do.

Knows events and medians; does not know what is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

WARM_UPS, ROUNDS = 3, 20


@dataclass(frozen=True)
class Peaks:
    """What this card does at best, measured."""

    copied_bytes_per_s: float
    """Read and written."""
    flops_per_s: float
    """Of torch's bfloat16 product of 8192³ random numbers."""


def measure_s(work: Callable[[int], object]) -> float:
    """The median time of `work(round)`; it takes other inputs each round."""
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
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    return measure_s(lambda _: graph.replay()) / repeats


def measure_peaks() -> Peaks:
    """Copy 1 GiB; multiply 8192 × 8192 by itself."""
    source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied_s = measure_s(lambda _: target.copy_(source))
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    multiplied_s = measure_s(lambda _: a @ b)
    return Peaks(2 * source.numel() / copied_s, 2 * size**3 / multiplied_s)
