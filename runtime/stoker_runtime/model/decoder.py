"""The Llama decoder: token ids in, hidden states out, logits on request.

Knows the order of layers; does not know sequences, sampling or files. Built by the engine from the
tensors that `weights` made, called by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.kernels.reference import Scoring
from stoker_runtime.model.attention import Attention, AttentionPlan
from stoker_runtime.model.layers import Mlp, RmsNorm, Rope, build_rope
from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.model.weights import Weights

Angles = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Attention and MLP, each behind a norm and added to its input."""

    spec: ModelSpec
    attn_norm: RmsNorm
    attention: Attention
    qkv: Linear
    out: Linear
    mlp_norm: RmsNorm
    mlp: Mlp

    def __call__(
        self, x: torch.Tensor, angles: Angles, cache: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it to [num_tokens, hidden]."""
        x = x + self._attention(self.attn_norm(x), angles, cache, plan)
        return x + self.mlp(self.mlp_norm(x))

    def _attention(
        self, x: torch.Tensor, angles: Angles, cache: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        spec = self.spec
        heads = self.qkv(x).view(x.shape[0], -1, spec.head_dim)
        num_turned = spec.num_heads + spec.num_kv_heads
        turned = reference.rotate(heads[:, :num_turned], *angles)
        q, k = turned[:, : spec.num_heads], turned[:, spec.num_heads :]
        attended = self.attention(q, k, heads[:, num_turned:], cache, plan)
        return self.out(attended.view(x.shape[0], -1))


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model."""

    spec: ModelSpec
    embed: torch.Tensor  # [vocab, hidden]
    rope: Rope
    layers: tuple[DecoderLayer, ...]
    norm: RmsNorm
    head: Linear

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.embed.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embed.device

    def hidden_states(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Run all layers.

        token_ids, positions: [num_tokens]; caches: [num_layers, 2, num_blocks, block_size,
        num_kv_heads, head_dim].
        """
        x = F.embedding(token_ids, self.embed)
        angles = self.rope.angles(positions, self.dtype)
        for layer, cache in zip(self.layers, caches.unbind(0), strict=True):
            x = layer(x, angles, cache, plan)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:  # [num_rows, vocab] float32
        """Scores of the next token for some rows of the hidden states."""
        return self.head(self.norm(hidden)).float()


def build_decoder(spec: ModelSpec, weights: Weights) -> Decoder:
    """Hand each layer its weights."""
    embed = weights.tensors["embed"]
    return Decoder(
        spec=spec,
        embed=embed,
        rope=build_rope(spec, embed.device),
        layers=tuple(_build_layer(spec, weights, index) for index in range(spec.num_layers)),
        norm=RmsNorm(weights.tensors["norm"], spec.rms_norm_eps),
        head=weights.linears["head"],
    )


def _build_layer(spec: ModelSpec, weights: Weights, index: int) -> DecoderLayer:
    def linear(name: str) -> Linear:
        return weights.linears[f"layers.{index}.{name}"]

    def norm(name: str) -> RmsNorm:
        return RmsNorm(weights.tensors[f"layers.{index}.{name}"], spec.rms_norm_eps)

    return DecoderLayer(
        spec=spec,
        attn_norm=norm("attn_norm"),
        attention=Attention(Scoring(spec.head_dim**-0.5)),
        qkv=linear("qkv"),
        out=linear("out"),
        mlp_norm=norm("mlp_norm"),
        mlp=Mlp(linear("gate_up"), linear("down")),
    )
