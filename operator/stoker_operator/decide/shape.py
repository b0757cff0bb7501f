"""The shape of a decoder: what the arithmetic of `fit` needs of a checkpoint's `config.json`.

Knows Hugging Face's field names and counts parameters; does not know bytes or GPUs. What the
runtime has no code for is refused here by name, as the runtime would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker_operator.decide.family import FAMILIES, Family

STRETCHED = ("longrope", "su")
"""Kinds of rope with factors for two lengths."""
SHARED = "shared_expert_intermediate_size"
METHODS = ("gptq", "awq", "compressed-tensors")
"""Formats of quantised checkpoints that are served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of one decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    """Tokens of the longest sequence, unless a longer one is asked for."""
    longest: int
    """The longest that may be asked for: above `context` where a rope can be stretched."""
    tied: bool = False
    """Whether the output head is the embedding."""
    small: int = 0
    """Numbers in the norms and biases of one layer."""
    sparse_layers: int = 0
    """Layers whose feed-forward is a mixture of experts; 0 for a dense model."""
    experts: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    """Width of an expert that sees every token, behind a gate of its own; 0: none."""

    @property
    def tables(self) -> int:
        """Parameters of the embedding and of the output head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def linear_parameters(self) -> int:
        """Parameters of the projections, which quantisation makes smaller."""
        attention = self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.hidden * (self.layers * attention + 3 * self._widths)

    @property
    def whole_parameters(self) -> int:
        """Tables, norms, biases and routers, which stay in 16 bits."""
        gates = self.experts + bool(self.shared_intermediate)
        routers = self.sparse_layers * gates * self.hidden
        return self.tables + self.layers * self.small + self.hidden + routers

    @property
    def linear_rows(self) -> int:
        """Output rows of the projections of all layers: 8-bit formats have a scale for each."""
        attention = self.head_dim * (self.heads + 2 * self.kv_heads) + self.hidden
        mixtures = self.sparse_layers * (self.experts + bool(self.shared_intermediate))
        downs = self.layers - self.sparse_layers + mixtures
        return self.layers * attention + 2 * self._widths + downs * self.hidden

    @property
    def _widths(self) -> int:
        """Of the feed-forwards of all layers together."""
        mixture = self.experts * self.expert_intermediate + self.shared_intermediate
        dense = (self.layers - self.sparse_layers) * self.intermediate
        return dense + self.sparse_layers * mixture


@dataclass(frozen=True, slots=True)
class Stored:
    """How the projections of a checkpoint are stored."""

    quantization: str
    """`FP8`, `Int8` or `Int4`."""
    group_size: int = 0
    """Columns that share a scale; 0: all of a row."""


def derive_shape(config: Mapping[str, Any]) -> Shape:
    """The shape in a `config.json`.

    Raises `ValueError` with the architecture that is not served, or the field that is wrong.
    """
    family = _pick_family(config)
    fields = {**family.defaults, **{k: v for k, v in config.items() if v is not None}}
    hidden, heads = (_size(fields, name) for name in ("hidden_size", "num_attention_heads"))
    head_dim = _size(fields, "head_dim", max(1, hidden // heads))
    kv_heads = _size(fields, "num_key_value_heads", heads)
    if heads % kv_heads:
        words = "must be a multiple of `num_key_value_heads`"
        raise ValueError(f"`num_attention_heads` {words}, was {heads} and {kv_heads}")
    width, layers = _size(fields, "intermediate_size"), _size(fields, "num_hidden_layers")
    longest = _size(fields, "max_position_embeddings", 2048)
    sparse = _sparse_layers(fields, layers) if family.expert_width else 0
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=width,
        vocab=_size(fields, "vocab_size"),
        context=min(longest, _trained_length(fields, longest)),
        longest=longest,
        tied=bool(fields.get("tie_word_embeddings")),
        small=_small(family, fields, (hidden, head_dim, head_dim * (heads + 2 * kv_heads), width)),
        sparse_layers=sparse,
        experts=_experts(fields) if sparse else 0,
        expert_intermediate=_size(fields, family.expert_width) if sparse else 0,
        shared_intermediate=_size(fields, SHARED) if sparse and fields.get(SHARED) else 0,
    )


def declared_quantization(config: Mapping[str, Any]) -> Stored | None:
    """How the checkpoint itself says that it is stored; nothing of one in 16 or 32 bits.

    Raises `ValueError` with the field of a format that is not served.
    """
    declared = config.get("quantization_config")
    if declared is None:
        return None
    if not isinstance(declared, dict):
        raise ValueError(f"`quantization_config` must be an object, was {declared!r}")
    if (method := declared.get("quant_method")) not in METHODS:
        served = f"is not served; served are {', '.join(METHODS)}"
        raise ValueError(f"`quantization_config.quant_method` {method!r} {served}")
    scheme = _only_weights(declared) if method == "compressed-tensors" else declared
    bits = scheme.get("num_bits", scheme.get("bits"))
    names = {8: "FP8"} if scheme.get("type") == "float" else {4: "Int4", 8: "Int8"}
    if bits not in names:
        kind = scheme.get("type", "int")
        raise ValueError(f"`quantization_config` of {bits!r} bits ({kind}) is not served")
    return Stored(names[bits], max(0, int(scheme.get("group_size") or 0)))


def _pick_family(config: Mapping[str, Any]) -> Family:
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        raise ValueError("`architectures` is missing, so nothing says what kind of model it is")
    if named[0] not in FAMILIES:
        served = ", ".join(FAMILIES)
        raise ValueError(f"architecture {named[0]!r} is not served; served are {served}")
    return FAMILIES[named[0]]


def _size(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = fields.get(name, default)
    if value is None:
        raise ValueError(f"`{name}` is missing")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` must be a whole number above 0, was {value!r}")
    return value


def _trained_length(fields: Mapping[str, Any], longest: int) -> int:
    """Phi-3 with LongRoPE is good for 4,096 tokens, for 131,072 when so many are asked for."""
    name = "rope_parameters" if fields.get("rope_parameters") else "rope_scaling"
    rope = fields.get(name) or {}
    if not isinstance(rope, dict):
        raise ValueError(f"`{name}` must be an object, was {rope!r}")
    if rope.get("rope_type", rope.get("type")) not in STRETCHED:
        return longest
    trained = _size(fields, "original_max_position_embeddings", longest)
    return _size(rope, "original_max_position_embeddings", trained)


def _experts(fields: Mapping[str, Any]) -> int:
    """Mixtral's name of their number, or Qwen's."""
    own = "num_local_experts" if "num_local_experts" in fields else "num_experts"
    return _size(fields, own)


def _sparse_layers(fields: Mapping[str, Any], layers: int) -> int:
    """All layers, but for those that Qwen's fields except."""
    dense, step = fields.get("mlp_only_layers") or [], _size(fields, "decoder_sparse_step", 1)
    if not isinstance(dense, list):
        raise ValueError(f"`mlp_only_layers` must be a list of layers, was {dense!r}")
    return sum(index not in dense and (index + 1) % step == 0 for index in range(layers))


def _small(family: Family, fields: Mapping[str, Any], shape: tuple[int, int, int, int]) -> int:
    """Norms and biases of a layer. shape: hidden size, of a head, of q, k and v, of the MLP."""
    hidden, head_dim, qkv, width = shape
    has_biases = family.biases == "always" or bool(fields.get(family.biases))
    norms = family.norms * hidden + (2 * head_dim if family.has_head_norms else 0)
    biases = qkv if has_biases else 0
    if has_biases and family.biases == "attention_bias":
        biases += hidden
    if family.has_mlp_bias_field and fields.get("mlp_bias"):
        biases += 2 * width + hidden
    return norms + biases


def _only_weights(declared: Mapping[str, Any]) -> Mapping[str, Any]:
    """How compressed-tensors' one scheme stores weights."""
    groups = declared.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        raise ValueError("`quantization_config.config_groups` must hold one scheme for all layers")
    [scheme] = groups.values()
    weights = scheme.get("weights") if isinstance(scheme, dict) else None
    if not isinstance(weights, dict):
        raise ValueError("`quantization_config.config_groups` must say how `weights` are stored")
    return weights
