"""Small things on their way to a device and back, without anybody waiting for them.

Knows numbers and tensors; does not know what they mean. A copy from memory that is not pinned waits
for all that the device has still to do; so both ways go through pinned memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def send(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The numbers as a tensor on the device: [num_values]."""
    return send_tensor(torch.tensor(values, dtype=dtype), device)


def send_tensor(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the processor's memory on the device."""
    if device.type != "cuda":
        return host
    return host.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Copies on their way to the processor."""

    tensors: list[torch.Tensor]
    event: torch.cuda.Event | None

    def wait(self) -> list[torch.Tensor]:
        """The copies, once they are there."""
        if self.event is not None:
            self.event.synchronize()
        return self.tensors


def fetch(tensors: Sequence[torch.Tensor]) -> Arrival:
    """Send tensors of one device to the processor; those that are there stay as they are."""
    if not tensors[0].is_cuda:
        return Arrival(list(tensors), None)
    copies = [one.to("cpu", non_blocking=True) for one in tensors]  # pinned, for that reason
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return Arrival(copies, event)
