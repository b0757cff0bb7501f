"""The blob of weights on its way to a device.

Knows bytes and two small buffers; does not know what is in them or how they were read. Called by
`weights`. Memory that is not pinned is copied by the driver piece by piece and waited for; here one
buffer is filled while the other is on its way. Only two small ones are pinned, because pinning all
of a blob takes longer than sending it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

_PIECE_BYTES = 64 << 20


def send_blob(data: torch.Tensor, device: torch.device) -> torch.Tensor:  # [num_bytes] uint8
    """All of [num_bytes] uint8 on the device; what is there already is not copied."""
    if device.type != "cuda":
        return data.to(device)
    out = torch.empty_like(data, device=device)
    size = min(_PIECE_BYTES, len(data))
    buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    events = [torch.cuda.Event() for _ in buffers]  # type: ignore[no-untyped-call]
    for index, piece in enumerate(cut(len(data), size)):
        event, buffer = events[index % 2], buffers[index % 2][: piece.stop - piece.start]
        event.synchronize()  # what it held two pieces ago has left
        buffer.copy_(data[piece])
        out[piece].copy_(buffer, non_blocking=True)
        event.record()
    torch.cuda.synchronize(device)
    return out


def cut(num_bytes: int, piece_bytes: int) -> Iterator[slice]:
    """10 bytes in pieces of 4: 0 to 4, 4 to 8, 8 to 10."""
    for start in range(0, num_bytes, piece_bytes):
        yield slice(start, min(start + piece_bytes, num_bytes))
