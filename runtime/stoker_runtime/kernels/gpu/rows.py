"""Rows of inputs as 8-bit codes, whole numbers or floats, with a scale each.

Knows how they are rounded; does not know the products that want them (`w8a8`, `fp8`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stoker_runtime.kernels.cache import LIMITS
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation

_ROUND = Kernel(
    module="rows",
    function="round_kernel",
    signature="x_ptr *T, codes_ptr *Q, scales_ptr *fp32, num_cols i32:16",
)
_BLOCK = 1024


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Every input dtype with every code that the tensor cores multiply."""
    for dtype in FLOATS:
        yield _specialise(dtype, torch.int8)
        if arch.has_fp8:
            yield _specialise(dtype, torch.float8_e4m3fn)


def round_rows(
    x: torch.Tensor, codes: torch.dtype, num_rows: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [max(num_tokens, num_rows), in] and scales of the rows [num_tokens, 1] float32.

    x: [num_tokens, in], `in` a multiple of 16. Rows that are only there to make `num_rows` hold
    anything.
    """
    x = x.contiguous()
    shape = (max(len(x), num_rows), x.shape[1])
    made = torch.empty(shape, dtype=codes, device=x.device)
    scales = torch.empty(len(x), 1, dtype=torch.float32, device=x.device)
    one = _specialise(ELEMENT_TYPES[x.dtype], codes)
    launch(one, (len(x), 1, 1), x, made, scales, x.shape[1])
    return made, scales


def _specialise(dtype: str, codes: torch.dtype) -> Specialisation:
    constants = {"LIMIT": LIMITS[codes], "BLOCK": _BLOCK}
    return _ROUND.specialise({"T": dtype, "Q": ELEMENT_TYPES[codes]}, constants, num_warps=4)
