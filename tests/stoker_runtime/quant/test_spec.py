"""Configs of quantised checkpoints: what is read from them, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken
from stoker_runtime.quant.spec import QuantSpec, parse_quantization

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True}
AWQ = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": 64,
    "version": "gemm",
    "zero_point": True,
    "modules_to_not_convert": None,
}
WEIGHTS = {
    "num_bits": 4,
    "type": "int",
    "strategy": "group",
    "group_size": 32,
    "symmetric": True,
    "dynamic": False,
    "actorder": None,
    "observer": "minmax",
}
ROWS = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
TOKENS = {"num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True}


def compressed(layout: str = "pack-quantized", **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": WEIGHTS, "input_activations": None, **more}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            GPTQ,
            QuantSpec(
                method="gptq",
                storage="gptq",
                bits=4,
                group_size=128,
                symmetric=True,
                zero_offset=1,
            ),
        ),
        (
            GPTQ | {"bits": 8, "group_size": -1, "sym": False, "checkpoint_format": "gptq_v2"},
            QuantSpec(method="gptq", storage="gptq", bits=8),
        ),
        (AWQ, QuantSpec(method="awq", storage="awq", bits=4, group_size=64)),
        (
            compressed(),
            QuantSpec(
                method="compressed-tensors",
                storage="packed",
                bits=4,
                group_size=32,
                symmetric=True,
            ),
        ),
        (
            compressed("int-quantized", weights=ROWS, input_activations=TOKENS),
            QuantSpec(
                method="compressed-tensors",
                storage="int8",
                bits=8,
                symmetric=True,
                quantize_input=True,
            ),
        ),
        (
            compressed("int-quantized", weights=ROWS),
            QuantSpec(method="compressed-tensors", storage="int8", bits=8, symmetric=True),
        ),
        (
            compressed(
                "float-quantized",
                weights=ROWS | {"type": "float"},
                input_activations=TOKENS | {"type": "float"},
            ),
            QuantSpec(
                method="compressed-tensors",
                storage="fp8",
                bits=8,
                symmetric=True,
                quantize_input=True,
            ),
        ),
    ],
    ids=["gptq", "gptq-v2", "awq", "w4a16", "w8a8", "w8a16", "fp8"],
)
def test_reads_what_the_writers_write(document: dict[str, Any], expected: QuantSpec) -> None:
    assert parse_quantization(document) == expected


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"quant_method": "fp8"}, ["quant_method` 'fp8'", "'gptq', 'awq', 'compressed-tensors'"]),
        ({}, ["quant_method` None"]),
        (GPTQ | {"bits": 3}, ["bits` 3", "4, 8"]),
        (GPTQ | {"bits": True}, ["bits` True"]),
        (GPTQ | {"group_size": 48}, ["group_size` 48", "-1, 32, 64, 128"]),
        (GPTQ | {"checkpoint_format": "marlin"}, ["checkpoint_format` 'marlin'"]),
        (GPTQ | {"lm_head": True}, ["lm_head` True"]),
        (GPTQ | {"dynamic": {"+:x": {"bits": 8}}}, ["dynamic`"]),
        (AWQ | {"version": "gemv"}, ["version` 'gemv'"]),
        (AWQ | {"zero_point": False}, ["zero_point` False"]),
        (AWQ | {"bits": 8}, ["bits` 8"]),
        (compressed("nvfp4-pack-quantized"), ["format` 'nvfp4-pack-quantized'", "pack-quantized"]),
        (compressed("float-quantized", weights=ROWS), ["group_0.weights.type` 'int'", "'float'"]),
        (compressed(input_activations=TOKENS), ["group_0.input_activations`"]),
        (compressed(weights=WEIGHTS | {"type": "float"}), ["group_0.weights.type` 'float'"]),
        (compressed(weights=WEIGHTS | {"num_bits": 2}), ["weights.num_bits` 2"]),
        (compressed(weights=WEIGHTS | {"strategy": "block"}), ["weights.strategy` 'block'"]),
        (
            compressed(
                "int-quantized", weights=ROWS, input_activations=TOKENS | {"dynamic": False}
            ),
            ["input_activations.dynamic` False"],
        ),
        (compressed() | {"kv_cache_scheme": {"num_bits": 8}}, ["kv_cache_scheme`"]),
        (compressed() | {"sparsity_config": {"format": "sparse-24"}}, ["format` 'sparse-24'"]),
        (
            compressed() | {"config_groups": {"a": {}, "b": {}}},
            ["config_groups`", "one scheme for all layers"],
        ),
    ],
    ids=str,
)
def test_refuses_by_field_and_value(document: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ArchitectureUnsupported) as caught:
        parse_quantization(document)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("groups", [None, [], {}, {"group_0": 4}, {"group_0": {"weights": None}}])
def test_a_config_that_makes_no_sense_is_broken(groups: object) -> None:
    with pytest.raises(CheckpointBroken, match=r"config\.json: `quantization_config\.config_gr"):
        parse_quantization(compressed() | {"config_groups": groups})
