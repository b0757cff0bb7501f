"""The product of an MLP's two halves, one of them through a non-linear function.

Knows one row's stretch of columns; does not know products of matrices. See the host's `gate`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gate_kernel(gate_up_ptr, out_ptr, inter, IS_SILU: tl.constexpr, BLOCK: tl.constexpr):
    """out = f(gate) · up in float32; gate and up lie side by side in a row of gate_up.

    f is silu(x) = x · σ(x) or gelu's tanh approximation, 0.5 · x · (1 + tanh(y)) = x · σ(2 · y)
    with y = √(2/π) · (x + 0.044715 · x³).
    """
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_col = cols < inter
    start = gate_up_ptr + row * 2 * inter
    gate = tl.load(start + cols, mask=is_col, other=0.0).to(tl.float32)
    up = tl.load(start + inter + cols, mask=is_col, other=0.0).to(tl.float32)
    steep = gate
    if not IS_SILU:
        steep = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
    out = gate * tl.sigmoid(steep) * up
    tl.store(out_ptr + row * inter + cols, out.to(out_ptr.dtype.element_ty), mask=is_col)
