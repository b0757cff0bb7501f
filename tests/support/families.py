"""Tiny random models of every family, made and written by `transformers`.

Knows each family's configuration class and the shapes that exercise what is special about it; does
not know our own code. Windows, ramps of ropes and experts are small enough to matter within 50
tokens. Heads have up to 16 entries: a CPU attends to multiples of 16 in one way, else in another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB = 128
_SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 9}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 24, "num_hidden_layers": 4, **_WINDOW}
_CAPS = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
_QWEN_MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [2.0, 3.0, 4.0, 8.0],
}


def _rope(**parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", **parameters}}


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "llama3": ("Llama", _rope(**_LLAMA_3, rope_theta=5e5)),
    "llama-yarn": ("Llama", _rope(**_YARN)),
    "llama-linear": ("Llama", {**_rope(rope_type="linear", factor=4.0), "mlp_bias": True}),
    "llama-dynamic": ("Llama", _rope(rope_type="dynamic", factor=2.0)),
    "smollm3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "smollm3-window": (
        "SmolLM3",
        {"no_rope_layers": [1, 0, 1], "use_sliding_window": True} | _WINDOW,
    ),
    "mistral": ("Mistral", {"head_dim": 16, **_WINDOW}),
    "mistral-windowless": ("Mistral", {"head_dim": 12, "sliding_window": None}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 1, **_WINDOW}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3-bias": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
    "gemma2": ("Gemma2", {**_GEMMA, **_CAPS}),
    "gemma2-narrow": ("Gemma2", {**_GEMMA, **_CAPS, "head_dim": 8}),
    "gemma3": ("Gemma3Text", {**_GEMMA, "sliding_window_pattern": 3}),
    "phi3": ("Phi3", {"sliding_window": 20}),
    "phi3-longrope": ("Phi3", {"original_max_position_embeddings": 64, **_rope(**_LONG)}),
    "phi4-partial": ("Phi3", _rope(partial_rotary_factor=0.5)),
    "mixtral": ("Mixtral", {"num_local_experts": 4, **_WINDOW}),
    "qwen2-moe": ("Qwen2Moe", {**_QWEN_MOE, "shared_expert_intermediate_size": 40}),
    "qwen3-moe": ("Qwen3Moe", {**_QWEN_MOE, "norm_topk_prob": True, "mlp_only_layers": [1]}),
}
"""Variant → its class's name in `transformers`, and what differs from `_SMALL`."""


def write_family(folder: Path, variant: str, **more: int) -> torch.nn.Module:
    """Write a random model of the variant to the folder; the model itself, to compare with."""
    name, changes = FAMILIES[variant]
    config = getattr(transformers, f"{name}Config")(**{**_SMALL, **changes, **more})
    torch.manual_seed(list(FAMILIES).index(variant))
    model_class = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")
    config._attn_implementation = "eager"  # the only one with soft caps
    model: torch.nn.Module = model_class(config).to(torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.2 * torch.randn_like(weight)
            else:
                weight.normal_(std=0.25)
    model.save_pretrained(folder)  # type: ignore[operator]
    return model
