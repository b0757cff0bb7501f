"""Rounds rows of inputs to 8 bits, each by its own largest value.

Knows one row; does not know what is multiplied with it. See the host's `rows`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def round_kernel(
    x_ptr, codes_ptr, scales_ptr, num_cols, LIMIT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """codes = x / scale with scale = max |x| / LIMIT, one row a program, read twice.

    Adding 1.5 · 2²³ leaves no bits behind the point, which rounds halves to even as torch does.
    """
    row = tl.program_id(0).to(tl.int64)
    steps = tl.arange(0, BLOCK)
    largest = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, num_cols, BLOCK):
        is_in = start + steps < num_cols
        x = tl.load(x_ptr + row * num_cols + start + steps, mask=is_in, other=0.0)
        largest = tl.maximum(largest, tl.abs(x.to(tl.float32)))
    scale = tl.maximum(tl.max(largest, 0), 1e-12) / LIMIT
    tl.store(scales_ptr + row, scale)
    for start in range(0, num_cols, BLOCK):
        is_in = start + steps < num_cols
        x = tl.load(x_ptr + row * num_cols + start + steps, mask=is_in, other=0.0)
        code = x.to(tl.float32) / scale
        if codes_ptr.dtype.element_ty == tl.int8:
            code = (code + 12582912.0) - 12582912.0
        code = code.to(codes_ptr.dtype.element_ty)
        tl.store(codes_ptr + row * num_cols + start + steps, code, mask=is_in)
