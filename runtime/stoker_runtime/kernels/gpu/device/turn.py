"""Queries, keys and values of new tokens on their way from a product to attention and cache.

Knows rows, one per token and head; does not know sequences. See the host's `turn`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turn_kernel(
    qkv_ptr, weight_ptr, cos_ptr, sin_ptr, slots_ptr, q_ptr, keys_ptr, values_ptr,
    key_scales_ptr, value_scales_ptr,
    num_tokens, num_heads, num_kv_heads, head_dim, half, eps,
    HAS_NORM: tl.constexpr, LIMIT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Normalise and turn queries and keys; store queries, and keys and values in their slots.

    A row of qkv is a head of a token: first the queries' heads, then the keys', then the values'.
    Entry d < half is turned with entry d + half: x[d] · cos - x[d + half] · sin, and the other one
    x[d + half] · cos + x[d] · sin; entries beyond 2 · half stay, and with a half of 0 all. With a
    LIMIT, which is the largest code, what is cached is rounded to 8 bits by the largest value of
    its row. Tokens without a slot (-1) are not stored.
    """
    num_turned = num_heads + num_kv_heads
    num_rows_per_token = num_turned + num_kv_heads
    rows = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    token, head = rows // num_rows_per_token, rows % num_rows_per_token
    is_row = token < num_tokens
    is_q, is_k = is_row & (head < num_heads), is_row & (head >= num_heads) & (head < num_turned)
    is_v = is_row & (head >= num_turned)
    d = tl.arange(0, BLOCK)
    is_d = d < head_dim
    is_in = is_row[:, None] & is_d[None, :]
    start = rows[:, None].to(tl.int64) * head_dim
    x = tl.load(qkv_ptr + start + d[None, :], mask=is_in, other=0.0).to(tl.float32)
    if HAS_NORM:
        is_scaled = (is_q | is_k)[:, None]
        inverse = tl.rsqrt(tl.sum(x * x, axis=1) / head_dim + eps)[:, None]
        weights = weight_ptr + head[:, None] * head_dim
        weight = tl.load(weights + d[None, :], mask=is_scaled & is_d[None, :], other=0.0)
        x = tl.where(is_scaled, x * inverse * weight, x)
    other = tl.where(d < half, d + half, d - half)
    is_turned = (is_q | is_k)[:, None] & (d < 2 * half)[None, :]
    y = tl.load(qkv_ptr + start + other[None, :], mask=is_turned, other=0.0).to(tl.float32)
    if HAS_NORM:
        y = y * inverse * tl.load(weights + other[None, :], mask=is_turned, other=0.0)
    angle = token[:, None] * half + (d % tl.maximum(half, 1))[None, :]
    cos = tl.load(cos_ptr + angle, mask=is_turned, other=1.0).to(tl.float32)
    sin = tl.load(sin_ptr + angle, mask=is_turned, other=0.0).to(tl.float32)
    x = x * cos + tl.where(d < half, -1.0, 1.0)[None, :] * y * sin
    q_row = (token.to(tl.int64) * num_heads + head)[:, None] * head_dim
    tl.store(
        q_ptr + q_row + d[None, :], x.to(q_ptr.dtype.element_ty), mask=is_q[:, None] & is_d[None, :]
    )
    slot = tl.load(slots_ptr + token, mask=is_row, other=-1).to(tl.int64)
    is_k, is_v = is_k & (slot >= 0), is_v & (slot >= 0)
    kv_row = slot * num_kv_heads + (head - num_heads) % num_kv_heads
    if LIMIT > 0:
        scale = tl.maximum(tl.max(tl.abs(x), axis=1), 1e-12) / LIMIT
        scale += tl.sum(x * 0.0, axis=1)  # a NaN is in the scale, so that no code hides it
        tl.store(key_scales_ptr + kv_row, scale, mask=is_k)
        tl.store(value_scales_ptr + kv_row, scale, mask=is_v)
        x = x / scale[:, None]
        if keys_ptr.dtype.element_ty == tl.int8:
            x = (x + 12582912.0) - 12582912.0  # 1.5 · 2²³: float32 has no room for halves beside it
    cached = x.to(keys_ptr.dtype.element_ty)
    offsets = kv_row[:, None] * head_dim + d[None, :]
    tl.store(keys_ptr + offsets, cached, mask=is_k[:, None] & is_d[None, :])
    tl.store(values_ptr + offsets, cached, mask=is_v[:, None] & is_d[None, :])
