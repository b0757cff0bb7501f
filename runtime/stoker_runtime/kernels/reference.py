"""The arithmetic of the hot paths in plain torch: the specification, and what a CPU runs.

Knows tensors only. Each function here may get a kernel of its own next to it, which must agree with
it; `layers` and `attention` call it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

_QUERY_TILE = 128
"""Measured: 512 queries in tiles of 64, 128, 256, 512 take 7.5, 7.1, 7.5, 11.2 ms (bf16, Zen 5)."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How products of queries and keys become scores: scale · q·k, then maybe a soft cap."""

    scale: float
    softcap: float | None = None
    """Scores s become cap · tanh(s / cap), which stays between -cap and cap (Gemma 2)."""


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:  # [num_tokens, hidden]
    """x / √(mean(x²) + eps) · weight, summed in float32."""
    return F.rms_norm(x, weight.shape, weight, eps)


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


def write_kv(cache: torch.Tensor, k: torch.Tensor, v: torch.Tensor, slots: torch.Tensor) -> None:
    """Store keys and values of new tokens: token i goes to slot `slots[i]`.

    cache: [2, num_blocks, block_size, num_kv_heads, head_dim]; k, v: [num_tokens, num_kv_heads,
    head_dim]; slots: [num_tokens], block · block_size + offset.
    """
    flat = cache.view(2, -1, *cache.shape[3:])
    flat[0].index_copy_(0, slots, k)
    flat[1].index_copy_(0, slots, v)


def read_kv(
    cache: torch.Tensor, block_ids: torch.Tensor, num_seqs: int
) -> tuple[torch.Tensor, torch.Tensor]:  # each [num_seqs, blocks · block_size, kv_heads, head_dim]
    """Copies of keys and values in token order; block_ids: [num_seqs · blocks], flat."""
    shape = (num_seqs, -1, *cache.shape[3:])
    k = cache[0].index_select(0, block_ids).view(shape)
    return k, cache[1].index_select(0, block_ids).view(shape)


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
