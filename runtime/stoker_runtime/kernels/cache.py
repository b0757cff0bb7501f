"""The paged cache: keys and values as they are, or as codes of 8 bits with a scale per head.

Knows its tensors and what they mean; does not know block tables or who writes when (`reference`,
`native` and `gpu` do). One object is a layer's cache; the runner's has all layers in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class KvCache:
    """Keys in [0], values in [1]; token `i` of a sequence is in its block `i // block_size`."""

    data: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads, head_dim]
    scales: torch.Tensor | None = None  # [2, num_blocks, block_size, num_kv_heads] float32
    """Of codes in int8: a head of a token is its codes times its scale."""

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
        self.data[:, :, block_ids] = 0
        if self.scales is not None:
            self.scales[:, :, block_ids] = 0


def round_heads(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each head to 8 bits by its own largest value: codes as x, int8; scales as x without the last
    dimension, float32. A NaN is in the scale, so that nothing hides it.
    """
    wide = x.float()
    scales = wide.abs().amax(dim=-1) / 127
    codes = (wide / scales.clamp(min=1e-30)[..., None]).round()
    return codes.nan_to_num().to(torch.int8), scales
