"""The decoder: token ids in, hidden states out, logits on request.

Knows the order of layers and what a spec switches on in them; does not know sequences, sampling or
files. Built by the engine from the tensors that `weights` made, called by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.kernels.reference import Scoring
from stoker_runtime.model.attention import Attention, AttentionPlan
from stoker_runtime.model.layers import (
    Angles,
    Experts,
    Gate,
    Mlp,
    RmsNorm,
    Rope,
    SharedExpert,
    build_rope,
)
from stoker_runtime.model.spec import LayerSpec, ModelSpec
from stoker_runtime.model.weights import Weights

_GATES: dict[str, Gate] = {
    "silu": reference.silu_and_multiply,
    "gelu_pytorch_tanh": reference.gelu_and_multiply,
}


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Attention and MLP, each behind a norm and added to its input."""

    num_heads: int
    num_kv_heads: int
    attn_norm: RmsNorm
    attention: Attention
    rope: int | None
    """Which of the model's ropes turns queries and keys."""
    head_norm: RmsNorm | None
    """Of queries and keys, before they are turned."""
    qkv: Linear
    out: Linear
    attn_out_norm: RmsNorm | None
    """Of what attention adds."""
    mlp_norm: RmsNorm
    mlp: Mlp | Experts
    mlp_out_norm: RmsNorm | None
    """Of what the MLP adds."""

    def __call__(
        self, x: torch.Tensor, angles: tuple[Angles, ...], cache: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it to [num_tokens, hidden]; angles: of each of the model's ropes."""
        added = self._attention(self.attn_norm(x), angles, cache, plan)
        x = x + (self.attn_out_norm(added) if self.attn_out_norm else added)
        added = self.mlp(self.mlp_norm(x))
        return x + (self.mlp_out_norm(added) if self.mlp_out_norm else added)

    def _attention(
        self, x: torch.Tensor, angles: tuple[Angles, ...], cache: torch.Tensor, plan: AttentionPlan
    ) -> torch.Tensor:
        num_turned = self.num_heads + self.num_kv_heads
        heads = self.qkv(x).view(x.shape[0], num_turned + self.num_kv_heads, -1)
        turned = heads[:, :num_turned]
        if self.head_norm is not None:
            turned = self.head_norm(turned)
        if self.rope is not None:
            turned = reference.rotate(turned, *angles[self.rope])
        q, k = turned[:, : self.num_heads], turned[:, self.num_heads :]
        attended = self.attention(q, k, heads[:, num_turned:], cache, plan)
        return self.out(attended.view(x.shape[0], -1))


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model."""

    spec: ModelSpec
    embed: torch.Tensor  # [vocab, hidden]
    ropes: tuple[Rope, ...]
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
        if self.spec.family.is_gemma:  # rounded to the dtype first, as it was in training
            x = x * torch.tensor(self.spec.hidden_size**0.5, dtype=x.dtype)
        angles = tuple(rope.angles(positions, self.dtype) for rope in self.ropes)
        for layer, cache in zip(self.layers, caches.unbind(0), strict=True):
            x = layer(x, angles, cache, plan)
        return x

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:  # [num_rows, vocab] float32
        """Scores of the next token for some rows of the hidden states."""
        logits = self.head(self.norm(hidden)).float()
        cap = self.spec.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


def build_decoder(spec: ModelSpec, weights: Weights) -> Decoder:
    """Hand each layer its weights."""
    embed = weights.tensors["embed"]
    return Decoder(
        spec=spec,
        embed=embed,
        ropes=tuple(build_rope(rope, embed.device) for rope in spec.ropes),
        layers=tuple(
            _LayerBuilder(spec, weights, f"layers.{index}.").build(layer)
            for index, layer in enumerate(spec.layers)
        ),
        norm=_norm(spec, weights.tensors["norm"]),
        head=weights.linears["head"],
    )


def _norm(spec: ModelSpec, weight: torch.Tensor) -> RmsNorm:
    """Gemma stores w - 1; the sum is kept in float32, bfloat16 would round it to 8 bits."""
    return RmsNorm(weight.float() + 1 if spec.family.is_gemma else weight, spec.rms_norm_eps)


@dataclass(frozen=True, slots=True)
class _LayerBuilder:
    """Finds one layer's weights by their names in the layout."""

    spec: ModelSpec
    weights: Weights
    prefix: str

    def build(self, layer: LayerSpec) -> DecoderLayer:
        spec = self.spec
        return DecoderLayer(
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            attn_norm=_norm(spec, self._tensor("attn_norm")),
            attention=Attention(Scoring(spec.score_scale, spec.score_softcap), layer.window),
            rope=layer.rope,
            head_norm=self._head_norm() if spec.family.has_head_norms else None,
            qkv=self._linear("qkv"),
            out=self._linear("out"),
            attn_out_norm=self._out_norm("attn_out_norm"),
            mlp_norm=_norm(spec, self._tensor("mlp_norm")),
            mlp=self._experts() if layer.is_sparse else self._mlp(""),
            mlp_out_norm=self._out_norm("mlp_out_norm"),
        )

    def _tensor(self, name: str) -> torch.Tensor:
        return self.weights.tensors[self.prefix + name]

    def _linear(self, name: str) -> Linear:
        return self.weights.linears[self.prefix + name]

    def _out_norm(self, name: str) -> RmsNorm | None:
        return _norm(self.spec, self._tensor(name)) if self.spec.family.is_gemma else None

    def _head_norm(self) -> RmsNorm:
        """One weight per head, so that queries and keys are normalised together."""
        q = self._tensor("q_norm").expand(self.spec.num_heads, -1)
        k = self._tensor("k_norm").expand(self.spec.num_kv_heads, -1)
        return _norm(self.spec, torch.cat((q, k)))

    def _mlp(self, name: str) -> Mlp:
        gate = _GATES[self.spec.family.activation]
        return Mlp(self._linear(f"{name}gate_up"), self._linear(f"{name}down"), gate)

    def _experts(self) -> Experts:
        experts = self.spec.experts
        assert experts is not None, "a sparse layer needs experts"
        shared = None
        if experts.shared_size:
            shared = SharedExpert(self._mlp("shared."), self._tensor("shared_gate"))
        return Experts(
            router=self._tensor("router"),
            mlps=tuple(self._mlp(f"experts.{index}.") for index in range(experts.num_experts)),
            num_chosen=experts.num_chosen,
            normalizes=experts.normalizes,
            shared=shared,
        )
