"""silu(gate) · up and gelu(gate) · up.

Knows rows of [num_tokens, 2 · inter]; does not know MLPs. `ops` hands both to the decoder; their
twins are those of the same names in `reference`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation

_GATE = Kernel(
    module="gate", function="gate_kernel", signature="gate_up_ptr *T, out_ptr *T, inter i32:16"
)
_BLOCK = 1024


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Both functions in both dtypes."""
    for dtype in FLOATS:
        for is_silu in (False, True):
            yield _specialise(dtype, is_silu)


def silu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
    """silu(gate) · up, of [num_tokens, 2 · inter]."""
    return _launch(gate_up, is_silu=True)


def gelu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
    """gelu(gate) · up with gelu's tanh approximation, of [num_tokens, 2 · inter]."""
    return _launch(gate_up, is_silu=False)


def _launch(gate_up: torch.Tensor, *, is_silu: bool) -> torch.Tensor:
    num_rows, inter = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(num_rows, inter)
    grid = (num_rows, -(-inter // _BLOCK), 1)
    one = _specialise(ELEMENT_TYPES[gate_up.dtype], is_silu)
    launch(one, grid, gate_up.contiguous(), out, inter)
    return out


def _specialise(dtype: str, is_silu: bool) -> Specialisation:
    return _GATE.specialise({"T": dtype}, {"IS_SILU": is_silu, "BLOCK": _BLOCK}, num_warps=4)
