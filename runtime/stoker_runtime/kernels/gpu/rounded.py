"""A cache whose keys and values are rounded to 8 bits.

Knows how codes and scales of one layer lie; does not know who writes or reads them (`turn` and
`attention` do).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class RoundedCache:
    """code · scale, one scale for each token and key head."""

    codes: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads, head_dim] int8
    scales: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads] float32


Cache = torch.Tensor | RoundedCache
"""One layer's keys and values: as they are, or rounded."""


def split(cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
    """What is stored, and its scales: [2, 0] where there are none."""
    if isinstance(cache, RoundedCache):
        return cache.codes, cache.scales
    return cache, cache.new_empty(2, 0, dtype=torch.float32)
