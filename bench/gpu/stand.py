"""Where the parts of the bench are measured: a card, or in a dry run this machine's processor.

Knows the device, its folders and what it does at best; does not know what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from figures import Figure, Journal
from stopwatch import measure_s

COPY, PRODUCT = "copy, bytes read and written", "product of 8192³ in bfloat16"


@dataclass(frozen=True)
class Stand:
    """One machine."""

    is_dry: bool
    journal: Journal
    folder: Path
    """For checkpoints, which are kept."""

    @property
    def device(self) -> torch.device:
        """What is measured."""
        return torch.device("cpu" if self.is_dry else "cuda:0")

    @property
    def arch(self) -> str:
        """Its generation."""
        if self.is_dry:
            return "sm_90"
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"

    @property
    def copied_bytes_per_s(self) -> float:
        """Measured by the part `peaks`."""
        return 1e12 * (self.journal.find("peaks", COPY) or 4.8)

    @property
    def flops_per_s(self) -> float:
        """Measured by the part `peaks`."""
        return 1e12 * (self.journal.find("peaks", PRODUCT) or 989.0)


def measure(stand: Stand) -> Iterator[Figure]:
    """The part `peaks`: copy 1 GiB; multiply 8192 × 8192 by itself."""
    num_bytes, size = (1 << 16, 64) if stand.is_dry else (1 << 30, 8192)
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=stand.device)
    target = torch.empty_like(source)
    copied_s = measure_s(lambda _: target.copy_(source))
    yield Figure(COPY, 2 * num_bytes / copied_s / 1e12, "TB/s")
    a, b = (torch.randn(size, size, device=stand.device).bfloat16() for _ in range(2))
    yield Figure(PRODUCT, 2 * size**3 / measure_s(lambda _: a @ b) / 1e12, "TFLOP/s")
