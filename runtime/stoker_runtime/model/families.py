"""What one family of models does differently from another: a table.

Knows which architectures there is code for, and of each the switches and the defaults of fields
that its `config.json` may leave out; does not read files. `spec` combines it with a config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stoker_runtime.fields import Fields
from stoker_runtime.model.experts import ExpertNames

Activation = Literal["silu", "gelu_pytorch_tanh"]
Biases = Literal["attention_bias", "qkv_bias", "always", "never"]
"""Where biases of q, k and v come from: a field (`attention_bias` means the output too)."""
Slides = Callable[[Fields, int], bool]
"""Whether a layer has a window where the config does not say it layer by layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Switches that follow from the architecture alone."""

    biases: Biases = "never"
    has_mlp_bias_field: bool = False
    slides: Slides | None = None
    """None: `sliding_window` means nothing here."""
    window_is_switched: bool = False
    """Windows count only with `use_sliding_window`."""
    has_head_norms: bool = False
    """Queries and keys are normalised head by head."""
    is_gemma: bool = False
    """Norms multiply by 1 + w and stand behind attention and MLP too, embeddings are scaled, scores
    have a scale of their own."""
    has_local_rope: bool = False
    """Layers with a window have another rope."""
    skips_rope: bool = False
    """Some layers have none."""
    is_fused: bool = False
    """q, k and v are one tensor of the checkpoint, so are gate and up."""
    activation: Activation = "silu"
    activation_field: str = "hidden_act"
    experts: ExpertNames | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of absent fields where they differ from Llama's."""


def _always(fields: Fields, index: int) -> bool:
    return True


def _above_the_windowless(fields: Fields, index: int) -> bool:
    return index >= fields.size("max_window_layers", 28)


def _every_other_below(fields: Fields, index: int) -> bool:
    return index % 2 == 0 and index < fields.size("max_window_layers", 28)


def _every_other(fields: Fields, index: int) -> bool:
    return index % 2 == 0


def _all_but_each_sixth(fields: Fields, index: int) -> bool:
    return (index + 1) % fields.size("sliding_window_pattern", 6) != 0


def _without_rope(fields: Fields, index: int) -> bool:
    return not has_rope(fields, index)


def has_rope(fields: Fields, index: int) -> bool:
    """SmolLM3: whether a layer turns queries and keys; one in four does not."""
    listed = fields.value("no_rope_layers")
    if listed is None:
        return (index + 1) % fields.size("no_rope_layer_interval", 4) != 0
    if not isinstance(listed, list) or len(listed) <= index:
        raise fields.wrong("no_rope_layers", "a list with a 0 or 1 for each layer", listed)
    return bool(listed[index])


_GEMMA_DEFAULTS = {
    "tie_word_embeddings": True,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_GEMMA_2 = Family(
    biases="attention_bias",
    slides=_every_other,
    is_gemma=True,
    activation="gelu_pytorch_tanh",
    activation_field="hidden_activation",
    defaults={
        **_GEMMA_DEFAULTS,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
)
_QWEN = {"max_position_embeddings": 32768, "sliding_window": 4096}
_QWEN_3 = {**_QWEN, "head_dim": 128}

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(biases="attention_bias", has_mlp_bias_field=True),
    "MistralForCausalLM": Family(
        slides=_always,
        defaults={"sliding_window": 4096, "max_position_embeddings": 131_072},
    ),
    "Qwen2ForCausalLM": Family(
        biases="always", slides=_above_the_windowless, window_is_switched=True, defaults=_QWEN
    ),
    "Qwen3ForCausalLM": Family(
        biases="attention_bias",
        slides=_above_the_windowless,
        window_is_switched=True,
        has_head_norms=True,
        defaults=_QWEN_3,
    ),
    "Gemma2ForCausalLM": _GEMMA_2,
    "Gemma3ForCausalLM": replace(
        _GEMMA_2,
        slides=_all_but_each_sixth,
        has_head_norms=True,
        has_local_rope=True,
        defaults={**_GEMMA_DEFAULTS, "max_position_embeddings": 131_072},
    ),
    "Phi3ForCausalLM": Family(
        slides=_always,
        is_fused=True,
        defaults={
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
        },
    ),
    "SmolLM3ForCausalLM": Family(
        biases="attention_bias",
        has_mlp_bias_field=True,
        slides=_without_rope,
        window_is_switched=True,
        skips_rope=True,
        defaults={
            "tie_word_embeddings": True,
            "rope_theta": 2e6,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
        },
    ),
    "MixtralForCausalLM": Family(
        slides=_always,
        experts="mixtral",
        defaults={
            "rope_theta": 1e6,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131_072,
            "num_key_value_heads": 8,
            "num_experts_per_tok": 2,
        },
    ),
    "Qwen2MoeForCausalLM": Family(
        biases="qkv_bias",
        slides=_every_other_below,
        window_is_switched=True,
        experts="qwen",
        defaults={
            **_QWEN,
            "qkv_bias": True,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
    ),
    "Qwen3MoeForCausalLM": Family(
        biases="attention_bias",
        slides=_always,
        window_is_switched=True,
        has_head_norms=True,
        experts="qwen",
        defaults={
            **_QWEN,
            "num_key_value_heads": 4,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
    ),
}
"""Architecture as `config.json` names it → what is special about it."""
