"""Products with weights as GPU kernels want them.

Knows each kind of `linear` and which kernel multiplies it; does not know checkpoints. `pack_linear`
is called while loading, on the device; what no kernel fits stays as it is and runs on torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stoker_runtime.kernels.gpu import fp8, w4a16, w8a8
from stoker_runtime.kernels.gpu.w4a16 import Words, pack_words
from stoker_runtime.kernels.linear import (
    Fp8Linear,
    GroupedLinear,
    Int8Linear,
    Linear,
    SideBySide,
)

_LINE = 16
"""Sizes that torch's 8-bit products take are multiples of this."""
_MIDDLE = 128
"""The code that stands for 0 when signed codes of 8 bits are counted from 0."""


@dataclass(frozen=True, slots=True)
class WordsLinear:
    """Weights of 4 or 8 bits, inputs as they are."""

    weight: Words
    order: torch.Tensor | None = None  # [in] int64, see `GroupedLinear`
    bias: torch.Tensor | None = None  # [out]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        x = x if self.order is None else x[:, self.order]
        return w4a16.multiply(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class EightBitLinear:
    """Weights and inputs of 8 bits, whole numbers or floats."""

    codes: torch.Tensor  # [out, in] int8 or float8_e4m3fn
    scales: torch.Tensor  # [out] float32
    bias: torch.Tensor | None = None  # [out]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        multiply = fp8.multiply if self.codes.is_floating_point() else w8a8.multiply
        return multiply(x, self.codes, self.scales, self.bias)


def pack_linear(linear: Linear) -> Linear:
    """The same product for GPU kernels, or as it is where none fits."""
    match linear:
        case GroupedLinear():
            weight = pack_words(
                linear.codes, linear.scales, linear.zeros, 4 if linear.bits <= 4 else 8
            )
            return linear if weight is None else WordsLinear(weight, linear.order, linear.bias)
        case Int8Linear(codes, scales, bias, quantize_input=True) if _is_even(codes):
            return EightBitLinear(codes, scales.float(), bias)
        case Int8Linear(quantize_input=False):
            return _pack_int8(linear)
        case Fp8Linear(codes, scales, bias) if _is_even(codes) and fp8.is_supported(codes.device):
            return EightBitLinear(codes, scales.float(), bias)
        case SideBySide(parts, bias):
            return SideBySide(tuple(pack_linear(part) for part in parts), bias)
        case _:
            return linear


def _pack_int8(linear: Int8Linear) -> Linear:
    """Signed codes with a scale per row are codes with a zero of 128 and one group."""
    scales = linear.scales.float()[:, None]
    codes = linear.codes.view(torch.uint8) ^ _MIDDLE
    weight = pack_words(codes, scales, torch.full_like(scales, _MIDDLE), 8)
    return linear if weight is None else WordsLinear(weight, None, linear.bias)


def _is_even(codes: torch.Tensor) -> bool:
    return all(size % _LINE == 0 for size in codes.shape)
