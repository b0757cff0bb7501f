"""RMSNorm of a sum.

Knows rows of hidden states; does not know layers. `ops` hands it to the decoder; its twin is
`reference.add_and_normalise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.reference import RmsNorm

MAX_HIDDEN = 16384
_NORM = Kernel(
    module="norm",
    function="norm_kernel",
    signature="x_ptr *T, added_ptr *T, added_weight_ptr *W, weight_ptr *W, out_ptr *T, "
    "num_rows i32, hidden i32:16, added_eps fp32, eps fp32",
)
_SHAPES = {1024: (4, 4), 2048: (1, 4), 4096: (1, 8), 8192: (1, 16), 16384: (1, 16)}
"""Columns of a program → its rows, and warps so that a thread holds at most 32 columns."""


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Every width; weights are in float32 where there are two (Gemma), else in the dtype."""
    for dtype, block in product(FLOATS, _SHAPES):
        yield _specialise((dtype, dtype), block, has_added_norm=False)
        yield _specialise((dtype, "fp32"), block, has_added_norm=True)


def add_and_normalise(
    x: torch.Tensor, added: torch.Tensor, added_norm: RmsNorm | None, norm: RmsNorm
) -> torch.Tensor:  # as x: [num_tokens, hidden]
    """Add to x, in place, what a part of the layer made of it, then normalise the sum."""
    out = torch.empty_like(x)
    num_rows, hidden = x.shape
    block = next(block for block in _SHAPES if block >= hidden)
    types = ELEMENT_TYPES[x.dtype], ELEMENT_TYPES[norm.weight.dtype]
    first = added_norm or norm
    grid = (-(-num_rows // _SHAPES[block][0]), 1, 1)
    launch(
        _specialise(types, block, has_added_norm=added_norm is not None),
        grid,
        *(x, added.contiguous(), first.weight, norm.weight, out),
        *(num_rows, hidden, first.eps, norm.eps),
    )
    return out


def _specialise(types: tuple[str, str], block: int, *, has_added_norm: bool) -> Specialisation:
    rows, num_warps = _SHAPES[block]
    constants = {"HAS_ADDED_NORM": has_added_norm, "BLOCK_ROWS": rows, "BLOCK": block}
    return _NORM.specialise({"T": types[0], "W": types[1]}, constants, num_warps)
