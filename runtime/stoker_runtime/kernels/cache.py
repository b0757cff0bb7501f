"""The paged cache: keys and values as they are, or as codes of 8 bits with a scale per head.

Knows its tensors and what they mean; does not know block tables or who writes when (`reference`,
`native` and `gpu` do). One object is a layer's cache; the runner's has all layers in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

LIMITS = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""Types of codes, and the largest of each."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """Keys in [0], values in [1]; token `i` of a sequence is in its block `i // block_size`."""

    data: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads, head_dim]
    scales: torch.Tensor | None = None  # [2, num_blocks, block_size, num_kv_heads] float32
    """Of codes, see `LIMITS`: a head of a token is its codes times its scale."""

    @property
    def dtype(self) -> torch.dtype:
        """What keys and values are before and after: that of the data, or float32 for codes."""
        return self.data.dtype if self.scales is None else self.scales.dtype

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return self.data.shape[-3]

    def layers(self) -> Iterator[KvCache]:
        """Each layer's own, of a cache that has them in front."""
        if self.scales is None:
            return (KvCache(data) for data in self.data)
        return (KvCache(*pair) for pair in zip(self.data, self.scales, strict=True))

    def clear(self, block_ids: torch.Tensor) -> None:
        """Zero some blocks of all layers; a scale that is not finite spoils as much as a value."""
        bits = self.data.view(torch.uint8) if self.data.itemsize == 1 else self.data
        bits[:, :, block_ids] = 0
        if self.scales is not None:
            self.scales[:, :, block_ids] = 0


def round_heads(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Each head to 8 bits by its own largest value: codes as x, in a dtype of `LIMITS`; scales as x
    without the last dimension, float32. A NaN is in the scale, so that nothing hides it.
    """
    wide = x.float()
    scales = wide.abs().amax(dim=-1) / LIMITS[dtype]
    codes = (wide / scales.clamp(min=1e-30)[..., None]).nan_to_num()
    return (codes if dtype.is_floating_point else codes.round()).to(dtype), scales
