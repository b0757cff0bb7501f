"""Sizes in the `config.json` of well-known checkpoints, and the parameters that they publish.

Knows published figures only; configs are cut down to the fields that matter for sizes.
"""

from __future__ import annotations

from typing import Any


def _config(architecture: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """sizes: hidden, layers, heads, KV heads, intermediate, vocabulary, positions."""
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    )
    fields = dict(zip(names, sizes, strict=True))
    return {"architectures": [f"{architecture}ForCausalLM"], **fields, **more}


LLAMA_8B = _config("Llama", (4096, 32, 32, 8, 14336, 128256, 8192), tie_word_embeddings=False)
LLAMA_70B = _config("Llama", (8192, 80, 64, 8, 28672, 128256, 8192))
LLAMA_1B = _config("Llama", (2048, 16, 32, 8, 8192, 128256, 131072), tie_word_embeddings=True)
QWEN2_HALF_B = _config("Qwen2", (896, 24, 14, 2, 4864, 151936, 32768), tie_word_embeddings=True)
QWEN2_7B = _config("Qwen2", (3584, 28, 28, 4, 18944, 152064, 32768))
QWEN3_8B = _config("Qwen3", (4096, 36, 32, 8, 12288, 151936, 40960), head_dim=128)
QWEN3_30B = _config(
    "Qwen3Moe",
    (2048, 48, 32, 4, 6144, 151936, 40960),
    head_dim=128,
    num_experts=128,
    moe_intermediate_size=768,
)
QWEN_MOE = _config(
    "Qwen2Moe",
    (2048, 24, 16, 16, 5632, 151936, 8192),
    num_experts=60,
    moe_intermediate_size=1408,
    shared_expert_intermediate_size=5632,
)
MISTRAL_7B = _config("Mistral", (4096, 32, 32, 8, 14336, 32000, 32768))
MIXTRAL = _config("Mixtral", (4096, 32, 32, 8, 14336, 32000, 32768), num_local_experts=8)
GEMMA_2_9B = _config("Gemma2", (3584, 42, 16, 8, 14336, 256000, 8192), head_dim=256)
GEMMA_3_1B = _config("Gemma3", (1152, 26, 4, 1, 6912, 262144, 32768), head_dim=256)
PHI_3 = _config("Phi3", (3072, 32, 32, 32, 8192, 32064, 4096))
PHI_3_LONG = _config(
    "Phi3",
    (3072, 32, 32, 32, 8192, 32064, 131072),
    original_max_position_embeddings=4096,
    rope_scaling={"type": "longrope"},
)

CONFIGS: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-3-8B": (LLAMA_8B, 8_030_261_248),
    "Llama-3-70B": (LLAMA_70B, 70_553_706_496),
    "Llama-3.2-1B": (LLAMA_1B, 1_235_814_400),
    "Qwen2.5-0.5B": (QWEN2_HALF_B, 494_032_768),
    "Qwen2.5-7B": (QWEN2_7B, 7_615_616_512),
    "Qwen3-8B": (QWEN3_8B, 8_190_735_360),
    "Qwen3-30B-A3B": (QWEN3_30B, 30_532_122_624),
    "Qwen1.5-MoE-A2.7B": (QWEN_MOE, 14_315_784_192),
    "Mistral-7B-v0.1": (MISTRAL_7B, 7_241_732_096),
    "Mixtral-8x7B": (MIXTRAL, 46_702_792_704),
    "gemma-2-9b": (GEMMA_2_9B, 9_241_705_984),
    "gemma-3-1b": (GEMMA_3_1B, 999_885_952),
    "Phi-3-mini-4k": (PHI_3, 3_821_079_552),
    "Phi-3-mini-128k": (PHI_3_LONG, 3_821_079_552),
}
"""Name → config and the number of its parameters."""
