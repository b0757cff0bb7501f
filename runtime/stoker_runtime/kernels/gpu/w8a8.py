"""Products of 8-bit inputs with 8-bit weights on tensor cores.

Knows codes and scales of one weight; does not know checkpoints. torch's library multiplies and sums
in 32-bit integers, a kernel of ours turns the sums into outputs in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.gpu.rows import round_rows

_EPILOGUE = Kernel(
    module="w8a8",
    function="epilogue_kernel",
    signature="sums_ptr *i32, row_scales_ptr *fp32, scales_ptr *fp32, bias_ptr *T:1, out_ptr *T, "
    "num_rows i32, num_cols i32, num_biased i32",
)
_BLOCK_M, _BLOCK_N = 16, 128
_MIN_ROWS = 32
"""torch's integer product wants more than 16."""


@dataclass(frozen=True, slots=True)
class Sums:
    """An 8-bit product before its scales."""

    sums: torch.Tensor  # [num_tokens, out] int32
    row_scales: torch.Tensor  # [num_tokens, 1] float32
    scales: torch.Tensor  # [out] float32
    bias: torch.Tensor | None  # [out]


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Both dtypes."""
    yield from map(_specialise, FLOATS)


def multiply(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:  # [num_tokens, out]
    """x [num_tokens, in], rounded row by row, · (codes [out, in] int8 · scales [out])ᵀ + b.

    Both sizes of the weight are multiples of 16.
    """
    rounded, row_scales = round_rows(x, torch.int8, _MIN_ROWS)
    sums = torch._int_mm(rounded, codes.t())[: len(x)]
    return finish(Sums(sums, row_scales, scales, bias), x.dtype)


def finish(product: Sums, dtype: torch.dtype) -> torch.Tensor:  # [num_tokens, out] of dtype
    """sums · row_scales · scales + bias."""
    num_rows, num_cols = product.sums.shape
    out = torch.empty(num_rows, num_cols, dtype=dtype, device=product.sums.device)
    bias, num_biased = (out, 0) if product.bias is None else (product.bias, num_cols)
    grid = (-(-num_rows // _BLOCK_M), -(-num_cols // _BLOCK_N), 1)
    tensors = (product.sums, product.row_scales, product.scales, bias, out)
    launch(_specialise(ELEMENT_TYPES[dtype]), grid, *tensors, num_rows, num_cols, num_biased)
    return out


def _specialise(dtype: str) -> Specialisation:
    constants = {"BLOCK_M": _BLOCK_M, "BLOCK_N": _BLOCK_N}
    return _EPILOGUE.specialise({"T": dtype}, constants, num_warps=4)
