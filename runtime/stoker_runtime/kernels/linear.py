"""Matrix products with weights, one class per way of storing them.

Knows codes, scales and groups of one weight; does not know checkpoint formats (`quant` reads those
and makes these) nor layers. A class may keep its weight in whatever order its products want.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F


class Linear(Protocol):
    """x · Wᵀ + b, whatever W is stored as."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        ...


def round_rows(x: torch.Tensor) -> torch.Tensor:  # [num_tokens, in]
    """Each row rounded to 8 bits by its own largest value: what W8A8 checkpoints ask for."""
    step = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return (x / step).round() * step


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """Weights in a floating-point type."""

    weight: torch.Tensor  # [out, in]
    bias: torch.Tensor | None = None  # [out]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class GroupedLinear:
    """Codes of up to 8 bits with a scale and a zero per row and group of columns.

    W[o, i] = (codes[o, i] - zeros[o, g]) · scales[o, g] with g = i // group_size, after the columns
    of x were put into `order` (GPTQ's activation order; None: as they are).
    """

    codes: torch.Tensor  # [out, in] uint8
    scales: torch.Tensor  # [out, in / group_size]
    zeros: torch.Tensor  # [out, in / group_size], same dtype as the scales
    group_size: int
    bits: int
    order: torch.Tensor | None = None  # [in] int64
    bias: torch.Tensor | None = None  # [out]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        x = x if self.order is None else x[:, self.order]
        grouped = self.codes.view(len(self.codes), -1, self.group_size).to(self.scales.dtype)
        weight = (grouped - self.zeros[:, :, None]) * self.scales[:, :, None]
        return F.linear(x, weight.flatten(1).to(x.dtype), self.bias)


@dataclass(frozen=True, slots=True)
class Int8Linear:
    """Signed 8-bit codes with one scale per row: W[o, i] = codes[o, i] · scales[o].

    With `quantize_input` each row of x is rounded to 8 bits by its own largest value first (W8A8).
    """

    codes: torch.Tensor  # [out, in] int8
    scales: torch.Tensor  # [out]
    bias: torch.Tensor | None = None  # [out]
    quantize_input: bool = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        if self.quantize_input:
            x = round_rows(x)
        out = F.linear(x, self.codes.to(x.dtype)) * self.scales.to(x.dtype)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, slots=True)
class Fp8Linear:
    """Codes of 8-bit floats with one scale per row: W[o, i] = codes[o, i] · scales[o].

    Inputs are rounded to 8 bits too, where tensor cores multiply them; here they stay as they are.
    """

    codes: torch.Tensor  # [out, in] float8_e4m3fn
    scales: torch.Tensor  # [out]
    bias: torch.Tensor | None = None  # [out]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        out = F.linear(x, self.codes.to(x.dtype)) * self.scales.to(x.dtype)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Several products of one input that can't be stacked: their outputs next to each other."""

    parts: tuple[Linear, ...]
    bias: torch.Tensor | None = None  # [out of all parts]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        out = torch.cat([part(x) for part in self.parts], dim=-1)
        return out if self.bias is None else out + self.bias
