"""The cache as kernels are given it: pointers to what is stored and to scales, always both.

Knows how a layer's cache lies; does not know who writes or reads it (`turn` and `attention` do).
"""

from __future__ import annotations

import torch

from stoker_runtime.kernels.cache import LIMITS, KvCache
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES
from stoker_runtime.kernels.gpu.registry import Arch

_LIMITS = {ELEMENT_TYPES[dtype]: limit for dtype, limit in LIMITS.items()}


def cached_types(dtype: str, arch: Arch) -> tuple[str, ...]:
    """What keys and values of `dtype` may be stored as."""
    return (dtype, "i8", "fp8e4nv") if arch.has_fp8 else (dtype, "i8")


def find_limit(stored: str) -> float:
    """The largest code of a type that has scales; 0 of one that has none."""
    return _LIMITS.get(stored, 0.0)


def split(cache: KvCache) -> tuple[torch.Tensor, torch.Tensor]:
    """What is stored, and its scales: [2, 0] where there are none."""
    if cache.scales is not None:
        return cache.data, cache.scales
    return cache.data, cache.data.new_empty(2, 0, dtype=torch.float32)
