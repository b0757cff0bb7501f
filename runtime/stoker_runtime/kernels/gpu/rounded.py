"""The cache as kernels are given it: pointers to what is stored and to scales, always both.

Knows how a layer's cache lies; does not know who writes or reads it (`turn` and `attention` do).
"""

from __future__ import annotations

import torch

from stoker_runtime.kernels.cache import KvCache


def split(cache: KvCache) -> tuple[torch.Tensor, torch.Tensor]:
    """What is stored, and its scales: [2, 0] where there are none."""
    if cache.scales is not None:
        return cache.data, cache.scales
    return cache.data, cache.data.new_empty(2, 0, dtype=torch.float32)
