"""What is left of an 8-bit product after the tensor cores summed it in 32-bit integers.

Knows one tile of sums; does not know how they came about. See the host's `w8a8`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def epilogue_kernel(
    sums_ptr, row_scales_ptr, scales_ptr, bias_ptr, out_ptr, num_rows, num_cols, num_biased,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out[m, n] = sums[m, n] · row_scales[m] · scales[n] + bias[n], a tile a program."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_col = rows < num_rows, cols < num_cols
    offsets = rows[:, None].to(tl.int64) * num_cols + cols[None, :]
    is_in = is_row[:, None] & is_col[None, :]
    sums = tl.load(sums_ptr + offsets, mask=is_in, other=0).to(tl.float32)
    row_scales = tl.load(row_scales_ptr + rows, mask=is_row, other=0.0)
    scales = tl.load(scales_ptr + cols, mask=is_col, other=0.0)
    bias = tl.load(bias_ptr + cols, mask=cols < num_biased, other=0.0).to(tl.float32)
    out = sums * row_scales[:, None] * scales[None, :] + bias[None, :]
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=is_in)
