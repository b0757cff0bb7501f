"""A Llama decoder in plain torch, small enough to train on a laptop.

It knows the arithmetic of the model and the Hugging Face names of its tensors. It does not know
tokens, tasks or files. `training` fits it; `decoding` runs it; the serving runtime has its own,
paged, decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that fix a network; the names are those of a Llama `config.json`."""

    vocab_size: int
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5


class KeyValueCache:
    """Keys and values of the tokens already read, one pair per layer."""

    def __init__(self, num_layers: int) -> None:
        self._pairs: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    @property
    def num_tokens(self) -> int:
        """How many tokens were read so far."""
        first = self._pairs[0]
        return 0 if first is None else first[0].shape[2]

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append this step's keys and values, return all of them."""
        past = self._pairs[layer]
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        self._pairs[layer] = (k, v)
        return k, v


@dataclass(frozen=True, slots=True)
class Step:
    """What every layer needs to know about this forward pass."""

    cos: Tensor  # [num_tokens, head_dim]
    sin: Tensor  # [num_tokens, head_dim]
    mask: Tensor | None  # [batch, 1, num_tokens, num_keys], True where one may look
    cache: KeyValueCache | None


def rotary_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position, both halves of a head alike, as Hugging Face has it."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    positions = torch.arange(shape.max_position_embeddings, dtype=torch.float32)
    angles = torch.outer(positions, shape.rope_theta**-exponents).repeat(1, 2)
    return angles.cos(), angles.sin()  # each [max_position_embeddings, head_dim]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each head's pairs (i, i + half) by their position's angle."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


class Attention(nn.Module):
    """Causal attention with fewer key-value heads than query heads."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, shape.head_dim
        q_size, kv_size = (
            heads * shape.head_dim
            for heads in (shape.num_attention_heads, shape.num_key_value_heads)
        )
        self.q_proj = nn.Linear(shape.hidden_size, q_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, step: Step) -> Tensor:  # x: [batch, num_tokens, hidden_size]
        q, k, v = (self._split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        cos, sin = step.cos.to(q.dtype), step.sin.to(q.dtype)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if step.cache is not None:
            k, v = step.cache.extend(self.layer, k, v)
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        causal = step.mask is None and q.shape[2] > 1
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=step.mask, is_causal=causal
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out  # [batch, num_tokens, hidden_size]

    def _split(self, x: Tensor) -> Tensor:
        # [batch, num_tokens, size] → [batch, num_heads, num_tokens, head_dim]
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


class Mlp(nn.Module):
    """The gated feed-forward half of a layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and added to what came in."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), step)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Network(nn.Module):
    """The decoder, embeddings tied: its state dict is a Llama checkpoint without `model.`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        for name, table in zip(("cos", "sin"), rotary_table(shape), strict=True):
            self.register_buffer(name, table, persistent=False)

    def hidden(
        self, ids: Tensor, mask: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Last hidden states of `ids` [batch, num_tokens], which follow those in the cache."""
        start = 0 if cache is None else cache.num_tokens
        window = slice(start, start + ids.shape[1])
        x = self.embed_tokens(ids)
        step = Step(self.cos[window], self.sin[window], mask, cache)
        for layer in self.layers:
            x = layer(x, step)
        out: Tensor = self.norm(x)
        return out  # [batch, num_tokens, hidden_size]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token: [..., hidden_size] → [..., vocab_size]."""
        return functional.linear(hidden, self.embed_tokens.weight)
