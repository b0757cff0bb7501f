"""What all ranks of a model do at the same moment, by `torch.distributed`.

Knows tensors and the default group of this process; does not know models or what is computed. NCCL
on GPUs, Gloo on CPUs. Ranks are processes of one pod: they find each other by a file and speak over
the loopback device, shared memory or NVLink, never over the pod's network.
"""

from __future__ import annotations

import os

import torch
from torch import distributed as dist
from torch.nn import functional as F

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.parallel.share import Share


def connect(share: Share, meeting: str, device: str) -> None:
    """Meet the other ranks at a file, once in the life of a process; waits for all of them."""
    if share.is_whole or dist.is_initialized():
        return
    if not dist.is_available():
        raise ConfigInvalid("`tensor_parallel` must be 1: this torch has no `torch.distributed`")
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=dist.FileStore(meeting, share.ranks),  # type: ignore[attr-defined]
        rank=share.rank,
        world_size=share.ranks,
    )


def add_up(x: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, in place."""
    dist.all_reduce(x)
    return x


def send_to_all(x: torch.Tensor) -> torch.Tensor:
    """What the leader has of x, in everybody's."""
    x = x.contiguous()
    dist.broadcast(x, src=0)
    return x


def gather(x: torch.Tensor, share: Share, total: int) -> torch.Tensor:
    """The columns of all ranks side by side, for the leader; the others keep their own.

    x: [num_rows, columns of this share of `total`]. Shorter shares are filled up on their way.
    """
    widths = [len(share.of(rank, total)) for rank in range(share.ranks)]
    sent = F.pad(x, (0, max(widths) - x.shape[1])).contiguous()
    if not share.leads:
        dist.gather(sent, dst=0)
        return x
    parts = [torch.empty_like(sent) for _ in widths]
    dist.gather(sent, parts, dst=0)
    return torch.cat([part[:, :width] for part, width in zip(parts, widths, strict=True)], dim=-1)
