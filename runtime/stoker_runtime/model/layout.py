"""Which tensors a checkpoint must hold and how they lie in memory.

Knows Hugging Face names, shapes, and which tensors are multiplied together and so lie together
(q, k and v; gate and up); does not know files or torch. Read by the checkpoint and the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.quant.layout import Kind

_NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "attn_out_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}
_MLP_NAMES = {"mixtral": ("w1", "w3", "w2"), "qwen": ("gate_proj", "up_proj", "down_proj")}
_BLOCK_NAMES = {"mixtral": "block_sparse_moe", "qwen": "mlp"}


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
    tensors = [_single("embed", "model.embed_tokens.weight", (len(spec.tokens), hidden))]
    for index in range(spec.num_layers):
        tensors += _plan_layer(spec, index)
    tensors.append(_single("norm", "model.norm.weight", (hidden,)))
    if not spec.tied_embeddings:
        tensors.append(_single("head", "lm_head.weight", (len(spec.tokens), hidden)))
    return tuple(tensors)


def ignored_names(spec: ModelSpec) -> tuple[str, ...]:
    """Ends of names of tensors that checkpoints may hold and nobody needs."""
    derived = ("rotary_emb.inv_freq",)
    return (*derived, "lm_head.weight") if spec.tied_embeddings else derived


def _plan_layer(spec: ModelSpec, index: int) -> list[Fused]:
    source, target = f"model.layers.{index}.", f"layers.{index}."
    names = _GEMMA_NORMS if spec.family.is_gemma else _NORMS
    norms = {
        name: _single(f"{target}{name}", f"{source}{part}.weight", (spec.hidden_size,))
        for name, part in names.items()
    }
    mlp = _plan_experts if spec.layers[index].is_sparse else _plan_mlp
    return [
        norms["attn_norm"],
        *_plan_attention(spec, f"{source}self_attn.", target),
        *(norms[name] for name in names if name != "attn_norm"),
        *mlp(spec, source, target),
    ]


def _plan_attention(spec: ModelSpec, source: str, target: str) -> list[Fused]:
    hidden, q, kv = spec.hidden_size, spec.q_size, spec.kv_size
    if spec.family.is_fused:
        qkv = {f"{source}qkv_proj": q + 2 * kv}
    else:
        qkv = {f"{source}q_proj": q, f"{source}k_proj": kv, f"{source}v_proj": kv}
    norms = ("q_norm", "k_norm") if spec.family.has_head_norms else ()
    bias = spec.output_bias and spec.share.leads
    return [
        *_linear(f"{target}qkv", qkv, hidden, spec.attention_bias),
        *(_single(f"{target}{n}", f"{source}{n}.weight", (spec.head_dim,)) for n in norms),
        *_linear(f"{target}out", {f"{source}o_proj": hidden}, q, bias),
    ]


def _plan_mlp(spec: ModelSpec, source: str, target: str) -> list[Fused]:
    hidden, inter = spec.hidden_size, spec.intermediate_size
    if not spec.family.is_fused:
        return _gated(spec, f"{source}mlp.", target, inter)
    return [
        *_linear(f"{target}gate_up", {f"{source}mlp.gate_up_proj": 2 * inter}, hidden, False),
        *_linear(f"{target}down", {f"{source}mlp.down_proj": hidden}, inter, False),
    ]


def _gated(spec: ModelSpec, source: str, target: str, inter: int) -> list[Fused]:
    """The three products of an MLP: gate and up side by side, then down."""
    gate, up, down = _MLP_NAMES[spec.family.experts or "qwen"]
    hidden, bias = spec.hidden_size, spec.mlp_bias
    gate_up = {f"{source}{gate}": inter, f"{source}{up}": inter}
    return [
        *_linear(f"{target}gate_up", gate_up, hidden, bias),
        *_linear(f"{target}down", {f"{source}{down}": hidden}, inter, bias and spec.share.leads),
    ]


def _plan_experts(spec: ModelSpec, source: str, target: str) -> list[Fused]:
    """The router, every expert's MLP, and the one that all tokens share."""
    experts = spec.experts
    assert experts is not None, "a sparse layer needs experts"
    block = f"{source}{_BLOCK_NAMES[experts.names]}."
    hidden, shared = spec.hidden_size, experts.shared_size
    plan = [_single(f"{target}router", f"{block}gate.weight", (experts.num_experts, hidden))]
    for index in range(experts.num_experts):
        names = (f"{block}experts.{index}.", f"{target}experts.{index}.")
        plan += _gated(spec, *names, experts.intermediate_size)
    if shared:
        plan += _gated(spec, f"{block}shared_expert.", f"{target}shared.", shared)
        plan.append(
            _single(f"{target}shared_gate", f"{block}shared_expert_gate.weight", (1, hidden))
        )
    return plan


def _single(name: str, part: str, shape: tuple[int, ...]) -> Fused:
    return Fused(name, (Part(part, shape),))


def _linear(name: str, parts: dict[str, int], columns: int, bias: bool) -> list[Fused]:
    weights = tuple(Part(f"{part}.weight", (rows, columns)) for part, rows in parts.items())
    biases = tuple(Part(f"{part}.bias", (rows,)) for part, rows in parts.items())
    fused = [Fused(f"{name}.weight", weights)]
    return [*fused, Fused(f"{name}.bias", biases)] if bias else fused
