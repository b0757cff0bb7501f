"""Attention of a few tokens of one sequence to its keys in the paged cache.

Knows one tile: some tokens, the query heads that share a key head, and a share of the keys; does
not know steps. See the host's `attention`. Online softmax after Milakov and Gimelshein (2018) and
FlashAttention (Dao et al. 2022); tokens times heads of a group as the rows of a product, and keys
shared out among programs, as in "The Anatomy of a Triton Attention Kernel" (arXiv 2511.11581).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attend_kernel(
    q_ptr, keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, tiles_ptr, tables_ptr,
    out_ptr, parts_ptr, sums_ptr,
    num_heads, num_kv_heads, head_dim, block_shift, window, num_shares, scale, softcap,
    HAS_SCALES: tl.constexpr, HAS_SOFTCAP: tl.constexpr, IS_SHARED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """softmax(scale · q · kᵀ) · v for one tile, one key head and one share of the keys.

    tiles: [num_tiles, 4]: first row, number of rows, position of the first, place in tables. Row m
    of the product is token m // group and the m % group-th query head of the key head. Scores are
    kept times log2(e), for exp2. When it IS_SHARED, tiles have one row, and what they give goes
    unfinished to parts [num_tiles, num_heads, num_shares, head_dim], its maximum and total to sums
    [num_tiles, num_heads, num_shares, 2]; `merge_kernel` ends it.
    """
    tile = tiles_ptr + tl.program_id(0).to(tl.int64) * 4
    kv_head, share = tl.program_id(1), tl.program_id(2)
    first_row, num_rows = tl.load(tile), tl.load(tile + 1)
    first_position, table = tl.load(tile + 2), tables_ptr + tl.load(tile + 3)
    group = num_heads // num_kv_heads
    m, d, n = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK), tl.arange(0, BLOCK_N)
    position = first_position + m // group
    is_m, is_d = m // group < num_rows, d < head_dim
    row = (first_row + m // group).to(tl.int64) * num_heads + kv_head * group + m % group
    is_in = is_m[:, None] & is_d[None, :]
    q = tl.load(q_ptr + row[:, None] * head_dim + d[None, :], mask=is_in, other=0.0)
    end = first_position + num_rows
    oldest = tl.maximum(first_position - window + 1, 0) // BLOCK_N * BLOCK_N
    if IS_SHARED:  # 1000 keys in 4 shares of tiles of 64: 256, 256, 256 and 232
        width = tl.cdiv(tl.cdiv(end - oldest, BLOCK_N), num_shares) * BLOCK_N
        oldest += share * width
        end = tl.minimum(end, oldest + width)
    highest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    out = tl.zeros([BLOCK_M, BLOCK], tl.float32)
    for start in range(oldest, end, BLOCK_N):
        key = start + n
        is_n = key < end
        block = tl.load(table + (key >> block_shift), mask=is_n, other=0).to(tl.int64)
        slot = ((block << block_shift) + (key & ((1 << block_shift) - 1))) * num_kv_heads + kv_head
        k = tl.load(
            keys_ptr + slot[None, :] * head_dim + d[:, None],
            mask=is_n[None, :] & is_d[:, None], other=0.0,
        )  # fmt: skip
        scores = tl.dot(q, k.to(q.dtype), input_precision="ieee") * scale
        if HAS_SCALES:
            scores *= tl.load(key_scales_ptr + slot, mask=is_n, other=0.0)[None, :]
        if HAS_SOFTCAP:  # tanh(x) = 1 - 2 / (exp(2 · x) + 1)
            grown = tl.exp2(scores * (2.8853900817779268 / softcap))
            scores = softcap * (1.0 - 2.0 / (grown + 1.0))
        age = position[:, None] - key[None, :]
        is_seen = is_n[None, :] & (age >= 0) & (age < window)
        scores = tl.where(is_seen, scores * 1.4426950408889634, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        base = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(highest - base)
        total = total * shrink + tl.sum(weights, axis=1)
        highest = higher
        v = tl.load(
            values_ptr + slot[:, None] * head_dim + d[None, :],
            mask=is_n[:, None] & is_d[None, :], other=0.0,
        )  # fmt: skip
        if HAS_SCALES:
            weights *= tl.load(value_scales_ptr + slot, mask=is_n, other=0.0)[None, :]
        out = out * shrink[:, None]
        out = tl.dot(weights.to(q.dtype), v.to(q.dtype), out, input_precision="ieee")
    if IS_SHARED:
        head = kv_head * group + m % group
        place = (tl.program_id(0).to(tl.int64) * num_heads + head) * num_shares + share
        tl.store(sums_ptr + place * 2, highest, mask=is_m)
        tl.store(sums_ptr + place * 2 + 1, total, mask=is_m)
        tl.store(parts_ptr + place[:, None] * head_dim + d[None, :], out, mask=is_in)
    else:
        out = out / total[:, None]
        made = out.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * head_dim + d[None, :], made, mask=is_in)


@triton.jit
def merge_kernel(
    parts_ptr, sums_ptr, tiles_ptr, out_ptr, num_heads, head_dim, num_shares,
    MOST_SHARES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The attention of one row and head from what each share of the keys gave.

    A share with sums o, total t and maximum h adds 2^(h - H) · o above and 2^(h - H) · t below the
    line, H being the highest h; one that saw no key has h = -inf and counts nothing.
    """
    tile, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    share, d = tl.arange(0, MOST_SHARES), tl.arange(0, BLOCK)
    is_share, is_d = share < num_shares, d < head_dim
    places = (tile * num_heads + head) * num_shares + share
    highest = tl.load(sums_ptr + places * 2, mask=is_share, other=float("-inf"))
    totals = tl.load(sums_ptr + places * 2 + 1, mask=is_share, other=0.0)
    shrink = tl.exp2(highest - tl.max(highest, axis=0))
    parts = parts_ptr + places[:, None] * head_dim + d[None, :]
    is_in = is_share[:, None] & is_d[None, :]
    out = tl.load(parts, mask=is_in, other=0.0) * shrink[:, None]
    made = tl.sum(out, axis=0) / tl.sum(totals * shrink, axis=0)
    row = tl.load(tiles_ptr + tile * 4).to(tl.int64) * num_heads + head
    tl.store(out_ptr + row * head_dim + d, made.to(out_ptr.dtype.element_ty), mask=is_d)
