"""The arithmetic of the hot paths in plain torch: the specification, and what runs anywhere.

Knows tensors only. Each function here may get a kernel of its own next to it, which must agree with
it. The module as a whole implements `ops.Ops`; a decoder calls it through that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stoker_runtime.kernels.cache import KvCache, round_heads

takes_pages = False
"""See `ops.Ops`."""
Angles = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine, each [num_tokens, 1, turned / 2]."""
_QUERY_TILE = 128
"""Measured: 512 queries in tiles of 64, 128, 256, 512 take 7.5, 7.1, 7.5, 11.2 ms (bf16, Zen 5)."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What one layer's attention differs in from another's: which keys it sees, and how.

    Scores are scale · q·k, then maybe a soft cap.
    """

    scale: float
    softcap: float | None = None
    """Scores s become cap · tanh(s / cap), which stays between -cap and cap (Gemma 2)."""
    window: int = 0
    """Tokens that a token sees, itself included; 0: all."""


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Scale to unit root mean square, then by the weight; computed in the weight's dtype."""

    weight: torch.Tensor  # [hidden], or [num_heads, head_dim] for heads that have different ones
    eps: float


@dataclass(frozen=True, slots=True)
class Heads:
    """How the outputs of a layer's first product are queries, keys and values."""

    num_heads: int
    num_kv_heads: int
    norm: RmsNorm | None = None
    """Of each head of queries and keys: weight [num_heads + num_kv_heads, head_dim] float32."""


def normalise(x: torch.Tensor, norm: RmsNorm) -> torch.Tensor:  # as x: [num_tokens, ..., hidden]
    """x / √(mean(x²) + eps) · weight over the last dimension, summed in float32."""
    wide = x.to(norm.weight.dtype)
    if norm.weight.ndim == 1:
        return F.rms_norm(wide, norm.weight.shape, norm.weight, norm.eps).to(x.dtype)
    return (F.rms_norm(wide, norm.weight.shape[-1:], None, norm.eps) * norm.weight).to(x.dtype)


def add_and_normalise(
    x: torch.Tensor, added: torch.Tensor, added_norm: RmsNorm | None, norm: RmsNorm
) -> torch.Tensor:  # as x: [num_tokens, hidden]
    """Add to x, in place, what a part of the layer made of it, then normalise the sum."""
    x += added if added_norm is None else normalise(added, added_norm)
    return normalise(x, norm)


def turn_and_store(
    qkv: torch.Tensor,
    heads: Heads,
    angles: Angles | None,
    cache: KvCache,
    slots: torch.Tensor,
) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
    """Normalise and turn queries and keys, put keys and values into the cache: the queries."""
    num_turned = heads.num_heads + heads.num_kv_heads
    all_heads = qkv.view(qkv.shape[0], num_turned + heads.num_kv_heads, -1)
    turned = all_heads[:, :num_turned]
    if heads.norm is not None:
        turned = normalise(turned, heads.norm)
    if angles is not None:
        turned = rotate(turned, *angles)
    k, v = turned[:, heads.num_heads :], all_heads[:, num_turned:]
    write_kv(cache, k, v, slots)
    return turned[:, : heads.num_heads]


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
    """Turn each pair (x[i], x[i + d/2]) by its position's angle; cos, sin: [num_tokens, 1, d/2].

    Entries beyond d stay as they are.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def silu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
    """silu(gate) · up, of [num_tokens, 2 · inter]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def gelu_and_multiply(gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
    """gelu(gate) · up with gelu's tanh approximation, of [num_tokens, 2 · inter]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def write_kv(cache: KvCache, k: torch.Tensor, v: torch.Tensor, slots: torch.Tensor) -> None:
    """Store keys and values of new tokens: token i goes to slot `slots[i]`.

    k, v: [num_tokens, num_kv_heads, head_dim]; slots: [num_tokens], block · block_size + offset.
    """
    for index, x in enumerate((k, v)):
        data = cache.data[index].flatten(0, 1)
        if cache.scales is None:
            data.index_copy_(0, slots, x.to(data.dtype))
        else:
            codes, scales = round_heads(x, data.dtype)
            data.view(torch.uint8).index_copy_(0, slots, codes.view(torch.uint8))
            cache.scales[index].flatten(0, 1).index_copy_(0, slots, scales)


def read_kv(
    cache: KvCache, block_ids: torch.Tensor, num_seqs: int
) -> tuple[torch.Tensor, torch.Tensor]:  # each [num_seqs, blocks · block_size, kv_heads, head_dim]
    """Copies of keys and values in token order; block_ids: [num_seqs · blocks], flat."""
    shape = (num_seqs, -1, *cache.data.shape[3:])
    if cache.scales is None:
        k, v = (half.index_select(0, block_ids).view(shape) for half in cache.data)
        return k, v
    bits = cache.data.view(torch.uint8)  # which torch moves, of whatever type they are
    k, v = (half.index_select(0, block_ids).view(cache.data.dtype).view(shape) for half in bits)
    scales = (half.index_select(0, block_ids).view(*k.shape[:3], 1) for half in cache.scales)
    return k.float() * next(scales), v.float() * next(scales)


def attend_decodes(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scoring: Scoring
) -> torch.Tensor:  # [num_seqs, num_heads, head_dim]
    """softmax(score(q·kᵀ) + mask)·v with one query token per sequence.

    q: [num_seqs, num_heads, head_dim]; k, v: [num_seqs, num_keys, num_kv_heads, head_dim]; mask:
    [num_seqs, 1, 1, num_keys], -inf beyond a sequence's end. The query heads that share a key head
    are passed as queries of it: with 9 query and 3 key heads, torch sees 3 heads with 3 queries.
    """
    num_seqs, num_heads, head_dim = q.shape
    grouped = q.view(num_seqs, k.shape[2], -1, head_dim)
    out = attend_masked(grouped, k.transpose(1, 2), v.transpose(1, 2), mask, scoring)
    return out.reshape(num_seqs, num_heads, head_dim)


def attend_masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scoring: Scoring
) -> torch.Tensor:  # [..., num_queries, head_dim]
    """softmax(score(q·kᵀ) + mask)·v over the last two dimensions; the others are broadcast.

    torch has no fused product with a soft cap, so that one is written out.
    """
    if scoring.softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scoring.scale)
    scores = (q @ k.transpose(-2, -1)) * (scoring.scale / scoring.softcap)
    weights = torch.softmax(scores.tanh() * scoring.softcap + mask, dim=-1)
    return weights @ v


def attend_chunk(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scoring: Scoring
) -> torch.Tensor:  # [num_queries, num_heads, head_dim]
    """softmax(score(q·kᵀ) + mask)·v of the last tokens of one sequence.

    q: [num_queries, num_heads, head_dim]; k, v: [num_keys, num_kv_heads, head_dim]; mask:
    [num_queries, num_keys]. Key heads take the place of the batch and are broadcast to the query
    heads that share them, not repeated. Queries go in tiles, each with no more keys than its last
    one sees: of a prompt's square only the lower half is computed.
    """
    num_queries, num_heads, head_dim = q.shape
    num_past, num_kv_heads = k.shape[0] - num_queries, k.shape[1]
    group = num_heads // num_kv_heads
    q = q.view(num_queries, num_kv_heads, group, head_dim).permute(1, 2, 0, 3)
    k, v = (x.transpose(0, 1).unsqueeze(1).expand(-1, group, -1, -1) for x in (k, v))
    out = q.new_empty(num_queries, num_kv_heads, group, head_dim)
    for start in range(0, num_queries, _QUERY_TILE):
        end = min(start + _QUERY_TILE, num_queries)
        seen = slice(num_past + end)
        keys, values = k[:, :, seen], v[:, :, seen]
        tile = attend_masked(q[:, :, start:end], keys, values, mask[start:end, seen], scoring)
        out[start:end] = tile.permute(2, 0, 1, 3)
    return out.view(num_queries, num_heads, head_dim)


def group_experts(gate_ups: object, downs: object, gate: object) -> None:
    """Torch has no product of many experts: each is called for itself."""
