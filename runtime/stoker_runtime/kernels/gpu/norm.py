"""RMSNorm, alone and of a sum.

Knows rows of hidden states; does not know layers. `ops` hands both to the decoder; their twins are
`reference.normalise` and `reference.add_and_normalise`.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    """Every width, with weights in the dtype or in float32 (Gemma), of x or of a sum."""
    for dtype in FLOATS:
        for weight, has_added, has_added_norm in (
            (dtype, False, False),
            (dtype, True, False),
            ("fp32", False, False),
            ("fp32", True, True),
        ):
            for block in _SHAPES:
                yield _specialise((dtype, weight), block, has_added, has_added_norm)


def normalise(x: torch.Tensor, norm: RmsNorm) -> torch.Tensor:  # as x: [num_tokens, hidden]
    """x / √(mean(x²) + eps) · weight; weight: [hidden]."""
    out = torch.empty_like(x)
    _launch(x, None, None, norm, out)
    return out


def add_and_normalise(
    x: torch.Tensor, added: torch.Tensor, added_norm: RmsNorm | None, norm: RmsNorm
) -> torch.Tensor:  # as x: [num_tokens, hidden]
    """Add to x, in place, what a part of the layer made of it, then normalise the sum."""
    out = torch.empty_like(x)
    _launch(x, added.contiguous(), added_norm, norm, out)
    return out


def _launch(
    x: torch.Tensor,
    added: torch.Tensor | None,
    added_norm: RmsNorm | None,
    norm: RmsNorm,
    out: torch.Tensor,
) -> None:
    num_rows, hidden = x.shape
    block = next(block for block in _SHAPES if block >= hidden)
    types = ELEMENT_TYPES[x.dtype], ELEMENT_TYPES[norm.weight.dtype]
    one = _specialise(types, block, added is not None, added_norm is not None)
    first = added_norm or norm
    tensors = (x, x if added is None else added, first.weight, norm.weight, out)
    grid = (-(-num_rows // _SHAPES[block][0]), 1, 1)
    launch(one, grid, *tensors, num_rows, hidden, first.eps, norm.eps)


def _specialise(
    types: tuple[str, str], block: int, has_added: bool, has_added_norm: bool
) -> Specialisation:
    rows, num_warps = _SHAPES[block]
    constants = {
        "HAS_ADDED": has_added,
        "HAS_ADDED_NORM": has_added_norm,
        "BLOCK_ROWS": rows,
        "BLOCK": block,
    }
    return _NORM.specialise({"T": types[0], "W": types[1]}, constants, num_warps)
