"""Products of tokens with the experts they chose, all experts in one launch.

Knows one tile of tokens of one expert; does not know routers (the host's `moe` does).
"""

from __future__ import annotations

import triton
import triton.language as tl

from stoker_runtime.kernels.gpu.device.w4a16 import unpack


@triton.jit
def experts_kernel(
    x_ptr, weight_ptr, scales_ptr, zeros_ptr, places_ptr, factors_ptr, tiles_ptr, pairs_ptr,
    out_ptr, num_cols, num_outputs, num_blocks, num_chosen,
    GATHERS: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, PLANE: tl.constexpr,
    PACKED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """A tile of x · Wᵀ, W being that of the tile's expert.

    tiles: [num_tiles, 3], expert and a range of the sorted pairs; pairs: of token and choice,
    sorted by expert. With GATHERS x has a row per token and out one per sorted pair, else x one per
    sorted pair and out one per pair, so that nothing is copied to be sorted. places: [num_experts,
    3], where weights, scales and zeros lie, counted from those of the first expert.
    """
    tile = tiles_ptr + tl.program_id(1) * 3
    expert, first, last = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    spots = first + tl.arange(0, BLOCK_M)
    is_row = spots < last
    pairs = tl.load(pairs_ptr + spots, mask=is_row, other=0)
    rows = (pairs // num_chosen if GATHERS else spots).to(tl.int64)
    out_rows = (spots if GATHERS else pairs).to(tl.int64)
    outputs = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_output = outputs < num_outputs
    place = places_ptr + expert * 3
    weight_ptr += tl.multiple_of(tl.load(place), 16)
    x_ptr += rows[:, None] * num_cols
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    steps, line = tl.arange(0, PLANE), num_outputs.to(tl.int64)
    last_block = num_blocks * (first < last).to(tl.int32)
    if BITS == 16:
        lines = outputs[None, :] * num_cols.to(tl.int64)
        for block in range(last_block):
            cols = block * PLANE + steps
            is_col = cols < num_cols
            x = tl.load(x_ptr + cols[None, :], is_row[:, None] & is_col[None, :], 0.0)
            spread = is_col[:, None] & is_output[None, :]
            weight = tl.load(weight_ptr + lines + cols[:, None], spread, 0.0)
            acc = tl.dot(x, weight, acc, input_precision="ieee")
    else:
        scales_ptr += tl.multiple_of(tl.load(place + 1), 16)
        zeros_ptr += tl.multiple_of(tl.load(place + 2), 16)
        PLANES: tl.constexpr = 16 // BITS
        GROUPS: tl.constexpr = PLANE * PLANES // GROUP
        IN_GROUP: tl.constexpr = GROUP // PLANE
        for block in range(last_block):
            spread = (block * PLANE + steps)[:, None] * line + outputs[None, :]
            words = tl.load(weight_ptr + spread, is_output[None, :], 0)
            for group in tl.static_range(GROUPS):
                spot = (block * GROUPS + group) * line + outputs
                scales = tl.load(scales_ptr + spot, is_output, 0.0).to(tl.float32)
                zeros = tl.load(zeros_ptr + spot, is_output, 0)
                part = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
                for plane in tl.static_range(group * IN_GROUP, (group + 1) * IN_GROUP):
                    cols = (block * PLANES + plane) * PLANE + steps
                    is_in = is_row[:, None] & (cols < num_cols)[None, :]
                    x = tl.load(x_ptr + cols[None, :], is_in, 0.0)
                    codes = unpack(words, zeros[None, :], plane, BITS, PACKED, x.dtype)
                    part = tl.dot(x, codes, part, input_precision="ieee")
                acc += part * scales[None, :]
        acc *= tl.load(factors_ptr + expert)
    out = acc.to(out_ptr.dtype.element_ty)
    spread = out_rows[:, None] * num_outputs + outputs[None, :]
    tl.store(out_ptr + spread, out, mask=is_row[:, None] & is_output[None, :])
