"""Whether a GPU's memory is used as planned.

Knows bytes and torch's counters of them; does not know what they are for. Read by the engine when
it reports, after the first token and ever after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stoker_runtime.engine.memory import GpuMemory

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """Holds what tensors took at most against the plan, and says so once if it was more."""

    planned_bytes: int
    observe_peak: Callable[[], int]
    _has_warned: bool = False

    def look(self) -> int:
        """The most that tensors have taken so far."""
        peak_bytes = self.observe_peak()
        if peak_bytes > self.planned_bytes and not self._has_warned:
            self._has_warned = True
            log.warning(
                "tensors took %d MiB of the GPU's memory, %d MiB more than planned: "
                "lower `gpu_memory_utilization` or `max_batched_tokens` if memory runs out",
                peak_bytes >> 20,
                (peak_bytes - self.planned_bytes) >> 20,
            )
        return peak_bytes


def observe_gpu() -> GpuMemory:
    """Memory of the current GPU, after what is not used any more was given back."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    return GpuMemory(total_bytes, free_bytes, torch.cuda.memory_reserved())


def observe_peak() -> int:
    """The most that torch's allocator has held since `observe_gpu`."""
    return torch.cuda.max_memory_reserved()
