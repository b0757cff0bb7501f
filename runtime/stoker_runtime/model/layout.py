"""Which tensors a checkpoint must hold and how they lie in memory.

Knows Hugging Face names, shapes, and which tensors are multiplied together and so lie together
(q, k and v; gate and up); does not know files or torch. Read by the checkpoint and the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.quant.layout import Kind


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of the checkpoint."""

    name: str
    shape: tuple[int, ...]
    kind: Kind = "float"
    """Codes of quantised weights are whole numbers."""

    @property
    def num_elements(self) -> int:
        """Its size."""
        total = 1
        for length in self.shape:
            total *= length
        return total


@dataclass(frozen=True, slots=True)
class Fused:
    """One tensor of the decoder: parts stacked along the first dimension."""

    name: str
    parts: tuple[Part, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the stack."""
        rows = sum(part.shape[0] for part in self.parts)
        return (rows, *self.parts[0].shape[1:])


def plan_layout(spec: ModelSpec) -> tuple[Fused, ...]:
    """All tensors of the decoder in the order of their use."""
    hidden = spec.hidden_size
    tensors = [_single("embed", "model.embed_tokens.weight", (spec.vocab_size, hidden))]
    for index in range(spec.num_layers):
        tensors += _plan_layer(spec, index)
    tensors.append(_single("norm", "model.norm.weight", (hidden,)))
    if not spec.tied_embeddings:
        tensors.append(_single("head", "lm_head.weight", (spec.vocab_size, hidden)))
    return tuple(tensors)


def ignored_names(spec: ModelSpec) -> tuple[str, ...]:
    """Ends of names of tensors that checkpoints may hold and nobody needs."""
    derived = ("rotary_emb.inv_freq",)
    return (*derived, "lm_head.weight") if spec.tied_embeddings else derived


def _single(name: str, part: str, shape: tuple[int, ...]) -> Fused:
    return Fused(name, (Part(part, shape),))


def _plan_layer(spec: ModelSpec, index: int) -> list[Fused]:
    source, target = f"model.layers.{index}", f"layers.{index}"
    hidden, inter, q, kv = spec.hidden_size, spec.intermediate_size, spec.q_size, spec.kv_size
    attn, mlp = f"{source}.self_attn", f"{source}.mlp"
    qkv = {f"{attn}.q_proj": q, f"{attn}.k_proj": kv, f"{attn}.v_proj": kv}
    gate_up = {f"{mlp}.gate_proj": inter, f"{mlp}.up_proj": inter}
    return [
        _single(f"{target}.attn_norm", f"{source}.input_layernorm.weight", (hidden,)),
        *_linear(f"{target}.qkv", qkv, hidden, spec.attention_bias),
        *_linear(f"{target}.out", {f"{attn}.o_proj": hidden}, q, spec.attention_bias),
        _single(f"{target}.mlp_norm", f"{source}.post_attention_layernorm.weight", (hidden,)),
        *_linear(f"{target}.gate_up", gate_up, hidden, spec.mlp_bias),
        *_linear(f"{target}.down", {f"{mlp}.down_proj": hidden}, inter, spec.mlp_bias),
    ]


def _linear(name: str, parts: dict[str, int], columns: int, bias: bool) -> list[Fused]:
    weights = tuple(Part(f"{part}.weight", (rows, columns)) for part, rows in parts.items())
    biases = tuple(Part(f"{part}.bias", (rows,)) for part, rows in parts.items())
    fused = [Fused(f"{name}.weight", weights)]
    return [*fused, Fused(f"{name}.bias", biases)] if bias else fused
