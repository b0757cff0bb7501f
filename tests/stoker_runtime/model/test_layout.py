"""The layout names every tensor of a checkpoint once."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from stoker_runtime.model.layout import Fused, Part, ignored_names, plan_layout
from stoker_runtime.model.spec import read_spec
from support.checkpoints import LlamaShape, tensor_shapes, write_checkpoint


@pytest.mark.parametrize(
    "shape",
    [
        LlamaShape(),
        LlamaShape(tie_word_embeddings=False),
        LlamaShape(attention_bias=True, mlp_bias=True, num_hidden_layers=3),
    ],
    ids=["tied", "untied", "biases"],
)
def test_parts_are_the_checkpoints_tensors(tmp_path: Path, shape: LlamaShape) -> None:
    layout = plan_layout(read_spec(write_checkpoint(tmp_path, shape)))
    parts = [part for fused in layout for part in fused.parts]
    assert {part.name: part.shape for part in parts} == tensor_shapes(shape)
    assert len(parts) == len({part.name for part in parts})


def test_fused_tensors_stack_their_parts(tmp_path: Path) -> None:
    layout = {one.name: one for one in plan_layout(read_spec(write_checkpoint(tmp_path)))}
    assert layout["layers.0.qkv.weight"].shape == (64 + 32 + 32, 64)
    assert layout["layers.1.gate_up.weight"].shape == (256, 64)
    assert [part.name.split(".")[-2] for part in layout["layers.0.qkv.weight"].parts] == [
        "q_proj",
        "k_proj",
        "v_proj",
    ]


def test_counts_elements() -> None:
    fused = Fused("x", (Part("a", (2, 3)), Part("b", (5, 3))))
    assert [part.num_elements for part in fused.parts] == [6, 15]
    assert fused.shape == (7, 3)


def test_a_tied_head_may_be_there_and_an_untied_one_must(tmp_path: Path) -> None:
    spec = read_spec(write_checkpoint(tmp_path))
    assert "lm_head.weight" in ignored_names(spec)
    assert "lm_head.weight" not in ignored_names(replace(spec, tied_embeddings=False))


LARGE = {
    "Llama-3.2-1B": ("Llama", 128256, (2048, 8192, 16, 32, 8), {"tie_word_embeddings": True}),
    "Mistral-7B": ("Mistral", 32000, (4096, 14336, 32, 32, 8), {}),
    "Qwen2.5-0.5B": ("Qwen2", 151936, (896, 4864, 24, 14, 2), {"tie_word_embeddings": True}),
    "Qwen3-0.6B": ("Qwen3", 151936, (1024, 3072, 28, 16, 8), {"tie_word_embeddings": True}),
    "Gemma-2-2B": ("Gemma2", 256000, (2304, 9216, 26, 8, 4), {}),
    "Gemma-3-1B": ("Gemma3", 262144, (1152, 6912, 26, 4, 1), {}),
    "Phi-3-mini": ("Phi3", 32064, (3072, 8192, 32, 32, 32), {}),
    "SmolLM3-3B": ("SmolLM3", 128256, (2048, 11008, 36, 16, 4), {}),
    "Mixtral-8x7B": ("Mixtral", 32000, (4096, 14336, 32, 32, 8), {"num_local_experts": 8}),
    "Qwen1.5-MoE": ("Qwen2Moe", 151936, (2048, 5632, 24, 16, 16), {"num_experts": 60}),
    "Qwen3-30B": (
        "Qwen3Moe",
        151936,
        (2048, 6144, 48, 32, 4),
        {"num_experts": 128, "head_dim": 128},
    ),
}
COUNTS = {
    "Llama-3.2-1B": 1_235_814_400,
    "Mistral-7B": 7_241_732_096,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen3-0.6B": 596_049_920,
    "Gemma-2-2B": 2_614_341_888,
    "Gemma-3-1B": 999_885_952,
    "Phi-3-mini": 3_821_079_552,
    "SmolLM3-3B": 3_075_098_624,
    "Mixtral-8x7B": 46_702_792_704,
    "Qwen1.5-MoE": 14_315_784_192,
    "Qwen3-30B": 30_532_122_624,
}
"""Weights that each published model has, as its page says."""


@pytest.mark.parametrize("model", LARGE)
def test_published_models_have_the_number_of_weights_they_are_known_for(
    tmp_path: Path, model: str
) -> None:
    name, vocab, (hidden, inter, layers, heads, kv_heads), more = LARGE[model]
    config = {
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inter,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **more,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    layout = plan_layout(read_spec(tmp_path))
    assert sum(math.prod(fused.shape) for fused in layout) == COUNTS[model]
