"""RMSNorm of rows, after adding to them what a part of a layer made of them.

Knows a few whole rows; does not know layers. See the host's `norm`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_kernel(
    x_ptr, added_ptr, added_weight_ptr, weight_ptr, out_ptr, num_rows, hidden, added_eps, eps,
    HAS_ADDED_NORM: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x += added, then out = x / √(mean(x²) + eps) · weight, BLOCK_ROWS rows a program.

    With HAS_ADDED_NORM, `added` is normalised before it is added. All is summed in float32 and
    rounded to x's dtype where torch would round it.
    """
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    cols = tl.arange(0, BLOCK)
    offsets = rows[:, None].to(tl.int64) * hidden + cols[None, :]
    is_col = cols < hidden
    is_in = (rows < num_rows)[:, None] & is_col[None, :]
    dtype = x_ptr.dtype.element_ty
    x = tl.load(x_ptr + offsets, mask=is_in, other=0.0).to(tl.float32)
    added = tl.load(added_ptr + offsets, mask=is_in, other=0.0).to(tl.float32)
    if HAS_ADDED_NORM:
        inverse = tl.rsqrt(tl.sum(added * added, axis=1) / hidden + added_eps)
        scale = tl.load(added_weight_ptr + cols, mask=is_col, other=0.0).to(tl.float32)
        added = (added * inverse[:, None] * scale[None, :]).to(dtype).to(tl.float32)
    rounded = (x + added).to(dtype)
    tl.store(x_ptr + offsets, rounded, mask=is_in)
    x = rounded.to(tl.float32)
    inverse = tl.rsqrt(tl.sum(x * x, axis=1) / hidden + eps)
    weight = tl.load(weight_ptr + cols, mask=is_col, other=0.0).to(tl.float32)
    out = x * inverse[:, None] * weight[None, :]
    tl.store(out_ptr + offsets, out.to(dtype), mask=is_in)
