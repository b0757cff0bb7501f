"""What a checkpoint's architecture says about its size: which tensors it has besides the usual.

Knows the architectures that the runtime has code for and, of each, the tensors and the defaults of
fields that its `config.json` may leave out; does not know arithmetic (`fit`). A test compares it
with the runtime's own table, and the sizes with the models that `transformers` makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What follows from the architecture alone."""

    biases: Literal["attention_bias", "qkv_bias", "always", "never"] = "never"
    """The field that says whether q, k and v have biases (`attention_bias`: the output too)."""
    has_mlp_bias_field: bool = False
    norms: int = 2
    """Of each layer."""
    has_head_norms: bool = False
    """Queries and keys are normalised head by head."""
    expert_width: str = ""
    """The field with the width of an expert; empty: the family is dense."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of absent fields where they differ from Llama's."""


_GEMMA = {"tie_word_embeddings": True, "head_dim": 256}
_QWEN = {"max_position_embeddings": 32768}

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(biases="attention_bias", has_mlp_bias_field=True),
    "MistralForCausalLM": Family(defaults={"max_position_embeddings": 131_072}),
    "Qwen2ForCausalLM": Family(biases="always", defaults=_QWEN),
    "Qwen3ForCausalLM": Family(
        biases="attention_bias", has_head_norms=True, defaults={**_QWEN, "head_dim": 128}
    ),
    "Gemma2ForCausalLM": Family(
        biases="attention_bias", norms=4, defaults={**_GEMMA, "max_position_embeddings": 8192}
    ),
    "Gemma3ForCausalLM": Family(
        biases="attention_bias",
        norms=4,
        has_head_norms=True,
        defaults={**_GEMMA, "max_position_embeddings": 131_072},
    ),
    "Phi3ForCausalLM": Family(
        defaults={"max_position_embeddings": 4096, "original_max_position_embeddings": 4096}
    ),
    "SmolLM3ForCausalLM": Family(
        biases="attention_bias",
        has_mlp_bias_field=True,
        defaults={
            "tie_word_embeddings": True,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
        },
    ),
    "MixtralForCausalLM": Family(
        expert_width="intermediate_size",
        defaults={"max_position_embeddings": 131_072, "num_key_value_heads": 8},
    ),
    "Qwen2MoeForCausalLM": Family(
        biases="qkv_bias",
        expert_width="moe_intermediate_size",
        defaults={
            **_QWEN,
            "qkv_bias": True,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
    ),
    "Qwen3MoeForCausalLM": Family(
        biases="attention_bias",
        has_head_norms=True,
        expert_width="moe_intermediate_size",
        defaults={**_QWEN, "num_key_value_heads": 4, "moe_intermediate_size": 768},
    ),
}
"""Architecture as `config.json` names it → what is special about its size."""
