"""Rounds weights to 8 or 4 bits without looking at any input, as done while loading.

Knows one matrix at a time; does not know names or files. Called by `model/weights` and, for the
scales, by the calibrated methods of this room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.cache import LIMITS
from stoker_runtime.kernels.linear import Fp8Linear, GroupedLinear, Int8Linear
from stoker_runtime.quant.spec import Target

INT4_GROUP = 32
"""Columns that share a scale when 4 bits are made while loading."""
_SMALLEST_GROUP = 16
_SLICE_ELEMENTS = 1 << 20
"""Rounded at a time: bounds the float32 copies."""
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the full range that are tried: clipping a few outliers can sharpen all the rest."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Scales and zeros of groups: value = (code - zero) · scale, codes 0 … 2^bits - 1."""

    scales: torch.Tensor  # […, 1]
    zeros: torch.Tensor  # […, 1]
    bits: int

    def round(self, values: torch.Tensor) -> torch.Tensor:  # […, group] float, whole numbers
        """The nearest codes."""
        codes = torch.div(values, self.scales).add_(self.zeros)
        return codes.round_().clamp_(0, (1 << self.bits) - 1)

    def restore(self, codes: torch.Tensor) -> torch.Tensor:  # […, group]
        """The values that codes stand for."""
        return (codes - self.zeros) * self.scales


def fit_grid(values: torch.Tensor, bits: int, *, symmetric: bool) -> Grid:
    """A grid over the whole range of each row of values […, group], in float32."""
    top = (1 << bits) - 1
    if symmetric:
        middle = float(1 << (bits - 1))
        scales = values.abs().amax(-1, keepdim=True) / (middle - 0.5)
        return Grid(_positive(scales), torch.full_like(scales, middle), bits)
    low = values.amin(-1, keepdim=True).clamp_(max=0.0)
    high = values.amax(-1, keepdim=True).clamp_(min=0.0)
    scales = _positive((high - low) / top)
    return Grid(scales, (-low / scales).round_(), bits)


def search_grid(
    values: torch.Tensor, bits: int, *, symmetric: bool, weights: torch.Tensor | None = None
) -> Grid:
    """The shrunken grid with the least squared error of each group, of those in `_SHRINKS`.

    `weights` […, group] say how much the error of each value counts.
    """
    full = fit_grid(values, bits, symmetric=symmetric)
    best, least = full.scales, torch.full_like(full.scales, math.inf)
    for shrink in _SHRINKS:
        grid = Grid(full.scales * shrink, full.zeros, bits)
        errors = (grid.restore(grid.round(values)) - values).square_()
        if weights is not None:
            errors *= weights
        total = errors.sum(-1, keepdim=True)
        best = torch.where(total < least, grid.scales, best)
        least = torch.minimum(total, least)
    return Grid(best, full.zeros, bits)


def quantize(weight: torch.Tensor, target: Target) -> GroupedLinear | Int8Linear | Fp8Linear:
    """A product with the rounded weight [out, in], without bias."""
    match target:
        case "int8":
            return quantize_int8(weight)
        case "int4":
            return quantize_int4(weight)
        case "fp8":
            return quantize_fp8(weight)


def quantize_int8(weight: torch.Tensor) -> Int8Linear:
    """One scale per row of [out, in]: the largest value becomes ±127."""
    return Int8Linear(*_round_rows(weight, torch.int8))


def quantize_fp8(weight: torch.Tensor) -> Fp8Linear:
    """One scale per row of [out, in]: the largest value becomes ±448, the largest 8-bit float."""
    return Fp8Linear(*_round_rows(weight, torch.float8_e4m3fn))


def quantize_int4(weight: torch.Tensor) -> GroupedLinear | Int8Linear:
    """Groups of 32 columns of [out, in] with scale and zero; 8 bits where no group divides them.

    Over the whole range: searching for the best clipping took 5.5 s instead of 0.7 s for 135M
    weights, and a start has to wait for it.
    """
    columns = weight.shape[1]
    size = math.gcd(INT4_GROUP, columns)
    if size < _SMALLEST_GROUP:
        return quantize_int8(weight)
    shape = (len(weight), columns // size, size)
    codes = torch.empty(shape, dtype=torch.uint8, device=weight.device)
    scales = torch.empty((*shape[:2], 1), device=weight.device)
    zeros = torch.empty_like(scales)
    for rows in _slices(weight):
        values = weight[rows].float().view(-1, *shape[1:])
        grid = fit_grid(values, 4, symmetric=False)
        codes[rows] = grid.round(values).to(torch.uint8)
        scales[rows], zeros[rows] = grid.scales, grid.zeros
    return GroupedLinear(codes.flatten(1), scales[..., 0], zeros[..., 0], size, bits=4)


def _round_rows(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [out, in] and scales [out]."""
    codes = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    scales = torch.empty(len(weight), device=weight.device)
    for rows in _slices(weight):
        values = weight[rows].float()
        scales[rows] = _positive(values.abs().amax(-1) / LIMITS[dtype])
        steps = values / scales[rows, None]
        codes[rows] = (steps if dtype.is_floating_point else steps.round_()).to(dtype)
    return codes, scales


def _slices(weight: torch.Tensor) -> list[slice]:
    step = max(1, _SLICE_ELEMENTS // weight.shape[1])
    return [slice(start, start + step) for start in range(0, len(weight), step)]


def _positive(scales: torch.Tensor) -> torch.Tensor:
    """A group of zeros has any scale but 0."""
    return torch.where(scales > 0, scales, torch.ones_like(scales))
