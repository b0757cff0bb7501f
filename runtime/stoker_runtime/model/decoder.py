"""The decoder: token ids in, hidden states out, logits on request.

Knows the order of layers and what a spec switches on in them; does not know sequences, sampling or
files. Built by the engine from the tensors that `weights` made, called by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.embedding import Embedding
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.kernels.ops import AttentionPlan, Gate, Ops
from stoker_runtime.kernels.reference import Angles, Heads, RmsNorm, Scoring
from stoker_runtime.model.layers import Experts, Mlp, Rope, SharedExpert, build_rope
from stoker_runtime.model.spec import LayerSpec, ModelSpec
from stoker_runtime.model.weights import Weights


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Attention and MLP, each added to its input, and each sum normalised for what comes next."""

    ops: Ops
    heads: Heads
    scoring: Scoring
    rope: int | None
    """Which of the model's ropes turns queries and keys."""
    qkv: Linear
    out: Linear
    attn_out_norm: RmsNorm | None
    """Of what attention adds."""
    mlp_norm: RmsNorm
    mlp: Linear
    """An `Mlp` or `Experts`, or the sum of several ranks' (`spread`)."""
    mlp_out_norm: RmsNorm | None
    """Of what the MLP adds."""
    next_norm: RmsNorm
    """Of the next layer's input, or of the last one's output."""

    def __call__(
        self,
        x: torch.Tensor,
        normed: torch.Tensor,
        angles: tuple[Angles, ...],
        cache: KvCache,
        plan: AttentionPlan,
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Change x, [num_tokens, hidden], in place and return it normalised for the next layer.

        normed: x, normalised for this one; angles: of each of the model's ropes.
        """
        turned = None if self.rope is None else angles[self.rope]
        q = self.ops.turn_and_store(self.qkv(normed), self.heads, turned, cache, plan.slots)
        added = self.out(plan.attend(q, cache, self.scoring).view(x.shape[0], -1))
        normed = self.ops.add_and_normalise(x, added, self.attn_out_norm, self.mlp_norm)
        return self.ops.add_and_normalise(x, self.mlp(normed), self.mlp_out_norm, self.next_norm)


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model."""

    spec: ModelSpec
    ops: Ops
    embed: Embedding
    ropes: tuple[Rope, ...]
    first_norm: RmsNorm
    """Of the first layer's input; every later norm belongs to the layer before it."""
    layers: tuple[DecoderLayer, ...]
    head: Linear

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.embed.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embed.held.device

    def hidden_states(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        caches: KvCache,
        plan: AttentionPlan,
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Run all layers; what comes out is normalised.

        token_ids, positions: [num_tokens]; caches: of all layers.
        """
        x, angles = self.embed_tokens(token_ids), self.angles(positions)
        normed = reference.normalise(x, self.first_norm)
        for layer, cache in zip(self.layers, caches.layers(), strict=True):
            normed = layer(x, normed, angles, cache, plan)
        return normed

    def embed_tokens(self, token_ids: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """What the first layer gets."""
        x = self.embed(token_ids)
        if self.spec.family.is_gemma:  # rounded to the dtype first, as it was in training
            x = x * torch.tensor(self.spec.hidden_size**0.5, dtype=x.dtype)
        return x

    def angles(self, positions: torch.Tensor) -> tuple[Angles, ...]:
        """Of each rope, for every layer that turns by it."""
        return tuple(rope.angles(positions, self.dtype) for rope in self.ropes)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:  # [num_rows, vocab] float32
        """Scores of the next token for some rows of the hidden states."""
        logits = self.head(hidden).float()
        cap = self.spec.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)


def build_decoder(spec: ModelSpec, weights: Weights, ops: Ops = reference) -> Decoder:
    """Hand each layer its weights."""
    names = [*(f"layers.{index}.attn_norm" for index in range(spec.num_layers)), "norm"]
    norms = [_norm(spec, weights.tensors[name]) for name in names]
    return Decoder(
        spec=spec,
        ops=ops,
        embed=weights.embed,
        ropes=tuple(build_rope(rope, weights.embed.held.device) for rope in spec.ropes),
        first_norm=norms[0],
        layers=tuple(
            _LayerBuilder(spec, ops, weights, f"layers.{index}.").build(layer, norms[index + 1])
            for index, layer in enumerate(spec.layers)
        ),
        head=weights.linears["head"],
    )


def _norm(spec: ModelSpec, weight: torch.Tensor) -> RmsNorm:
    """Gemma stores w - 1; the sum is kept in float32, bfloat16 would round it to 8 bits."""
    return RmsNorm(weight.float() + 1 if spec.family.is_gemma else weight, spec.rms_norm_eps)


@dataclass(frozen=True, slots=True)
class _LayerBuilder:
    """Finds one layer's weights by their names in the layout."""

    spec: ModelSpec
    ops: Ops
    weights: Weights
    prefix: str

    def build(self, layer: LayerSpec, next_norm: RmsNorm) -> DecoderLayer:
        spec = self.spec
        head_norm = self._head_norm() if spec.family.has_head_norms else None
        return DecoderLayer(
            ops=self.ops,
            heads=Heads(spec.num_heads, spec.num_kv_heads, head_norm),
            scoring=Scoring(spec.score_scale, spec.score_softcap, layer.window),
            rope=layer.rope,
            qkv=self._linear("qkv"),
            out=self._linear("out"),
            attn_out_norm=self._out_norm("attn_out_norm"),
            mlp_norm=_norm(spec, self._tensor("mlp_norm")),
            mlp=self._experts() if layer.is_sparse else self._mlp(""),
            mlp_out_norm=self._out_norm("mlp_out_norm"),
            next_norm=next_norm,
        )

    def _tensor(self, name: str) -> torch.Tensor:
        return self.weights.tensors[self.prefix + name]

    def _linear(self, name: str) -> Linear:
        return self.weights.linears[self.prefix + name]

    def _out_norm(self, name: str) -> RmsNorm | None:
        return _norm(self.spec, self._tensor(name)) if self.spec.family.is_gemma else None

    def _head_norm(self) -> RmsNorm:
        """One weight per head, so that queries and keys are normalised together; in float32, as
        kernels compute."""
        q = self._tensor("q_norm").expand(self.spec.num_heads, -1)
        k = self._tensor("k_norm").expand(self.spec.num_kv_heads, -1)
        return _norm(self.spec, torch.cat((q, k)).float())

    def _mlp(self, name: str) -> Mlp:
        return Mlp(self._linear(f"{name}gate_up"), self._linear(f"{name}down"), self._gate())

    def _gate(self) -> Gate:
        is_silu = self.spec.family.activation == "silu"
        return self.ops.silu_and_multiply if is_silu else self.ops.gelu_and_multiply

    def _experts(self) -> Experts:
        experts = self.spec.experts
        assert experts is not None, "a sparse layer needs experts"
        shared = None
        if experts.shared_size:
            shared = SharedExpert(self._mlp("shared."), self._tensor("shared_gate"))
        mlps = tuple(self._mlp(f"experts.{index}.") for index in range(experts.num_experts))
        ups, downs = [one.gate_up for one in mlps], [one.down for one in mlps]
        return Experts(
            router=self._tensor("router"),
            mlps=mlps,
            num_chosen=experts.num_chosen,
            normalizes=experts.normalizes,
            shared=shared,
            together=self.ops.group_experts(ups, downs, self._gate()),
        )
