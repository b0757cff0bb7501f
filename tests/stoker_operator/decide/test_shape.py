"""Parameters counted from a `config.json`: as `transformers` builds, as makers publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stoker_operator.decide.shape import Shape, Stored, declared_quantization, derive_shape
from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken
from stoker_runtime.model.spec import read_spec
from stoker_runtime.quant.spec import QuantSpec
from support.configs import CONFIGS, LLAMA_8B, PHI_3_LONG, QWEN_MOE
from support.families import FAMILIES, write_family


def count(shape: Shape) -> int:
    return shape.linear_parameters + shape.whole_parameters


@pytest.mark.parametrize("variant", FAMILIES)
def test_counts_what_transformers_builds(variant: str, tmp_path: Path) -> None:
    model = write_family(tmp_path, variant)
    shape = derive_shape(json.loads((tmp_path / "config.json").read_text()))
    assert count(shape) == sum(one.numel() for one in model.parameters())
    assert shape.linear_rows == sum(
        one.numel() // one.shape[-1]
        for name, one in model.named_parameters()
        if one.ndim > 1 and not any(word in name for word in ("embed", "lm_head", "gate.weight"))
        if "shared_expert_gate" not in name
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_what_makers_publish(name: str) -> None:
    config, parameters = CONFIGS[name]
    assert count(derive_shape(config)) == parameters


def test_a_stretchable_rope_offers_its_short_length_and_allows_its_long_one() -> None:
    shape = derive_shape(PHI_3_LONG)
    assert (shape.context, shape.longest) == (4096, 131_072)
    shape = derive_shape(LLAMA_8B)
    assert (shape.context, shape.longest) == (8192, 8192)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["DeepseekV3ForCausalLM"]}, "'DeepseekV3ForCausalLM' is not served"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, "served are LlamaForCausalLM"),
        ({"architectures": None}, "`architectures` is missing"),
        ({"hidden_size": None}, "`hidden_size` is missing"),
        ({"hidden_size": "wide"}, "`hidden_size` must be a whole number above 0, was 'wide'"),
        ({"num_attention_heads": 0}, "`num_attention_heads` must be .* was 0"),
        ({"num_hidden_layers": True}, "`num_hidden_layers` must be .* was True"),
        ({"num_key_value_heads": 5}, "must be a multiple of `num_key_value_heads`, was 32 and 5"),
        ({"rope_scaling": "yarn"}, "`rope_scaling` must be an object, was 'yarn'"),
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        derive_shape({**LLAMA_8B, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mlp_only_layers": 3}, "`mlp_only_layers` must be a list of layers, was 3"),
        ({"num_experts": None}, "`num_experts` is missing"),
        ({"shared_expert_intermediate_size": "wide"}, "`shared_expert_.* was 'wide'"),
    ],
    ids=str,
)
def test_so_are_experts(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        derive_shape({**QWEN_MOE, **changes})


def compressed(**weights: Any) -> dict[str, Any]:
    """compressed-tensors' words for one scheme."""
    layout = "pack-quantized"
    if weights["num_bits"] == 8:
        layout = "float-quantized" if weights["type"] == "float" else "int-quantized"
    groups = {"group_0": {"weights": weights}}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups}


CHANNEL = {"strategy": "channel", "symmetric": True}
SERVED: list[tuple[dict[str, Any], Stored]] = [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, Stored("Int4", 128)),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, Stored("Int8")),
    ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"}, Stored("Int4", 64)),
    (
        compressed(num_bits=4, type="int", strategy="group", group_size=32, symmetric=False),
        Stored("Int4", 32),
    ),
    (compressed(num_bits=8, type="int", **CHANNEL), Stored("Int8")),
    (compressed(num_bits=8, type="float", **CHANNEL), Stored("FP8")),
]
REFUSED: list[dict[str, Any]] = [
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"quant_method": "gptq", "bits": 3, "group_size": 128},
    {"bits": 4},
    compressed(num_bits=4, type="float", strategy="group", group_size=32),
    {"quant_method": "compressed-tensors", "config_groups": {}},
    {"quant_method": "compressed-tensors", "config_groups": {"a": {}}},
]


def read_as_the_runtime_does(folder: Path, declared: dict[str, Any]) -> QuantSpec | None:
    config = LLAMA_8B | {"quantization_config": declared}
    (folder / "config.json").write_text(json.dumps(config))
    return read_spec(folder).quantization


@pytest.mark.parametrize(("declared", "stored"), SERVED, ids=str)
def test_reads_how_a_checkpoint_is_stored_as_the_runtime_does(
    tmp_path: Path, declared: dict[str, Any], stored: Stored
) -> None:
    assert declared_quantization({"quantization_config": declared}) == stored
    theirs = read_as_the_runtime_does(tmp_path, declared)
    assert theirs is not None
    assert theirs.group_size == stored.group_size
    assert stored.quantization == ("FP8" if theirs.storage == "fp8" else f"Int{theirs.bits}")


@pytest.mark.parametrize("declared", REFUSED, ids=str)
def test_refuses_a_format_that_the_runtime_refuses(
    tmp_path: Path, declared: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="`quantization_config"):
        declared_quantization({"quantization_config": declared})
    with pytest.raises((ArchitectureUnsupported, CheckpointBroken)):
        read_as_the_runtime_does(tmp_path, declared)


def test_a_checkpoint_that_says_nothing_is_not_quantised() -> None:
    assert declared_quantization({}) is None
    with pytest.raises(ValueError, match="must be an object, was 4"):
        declared_quantization({"quantization_config": 4})
