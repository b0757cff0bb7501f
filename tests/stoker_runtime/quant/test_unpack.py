"""Checkpoints in every format mean the weights that their writers meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stoker_runtime.config import Config
from stoker_runtime.engine.assembly import build_engine
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.loading import Recipe as Loading
from stoker_runtime.engine.loading import prepare
from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.kernels.gpu.linear import EightBitLinear, WordsLinear
from stoker_runtime.kernels.linear import GroupedLinear, Int8Linear, Linear, SideBySide
from stoker_runtime.kernels.ops import pick_ops
from stoker_runtime.model.decoder import build_decoder
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.model.storage import HEAD
from stoker_runtime.model.weights import WeightPlan, Weights, build_weights
from stoker_runtime.quant.spec import parse_quantization
from stoker_runtime.quant.unpack import unpack, unpack_words
from stoker_runtime.schedule.step import Chunk
from support.checkpoints import LlamaShape
from support.engines import MACHINE, make_engine
from support.quantized import (
    Packed,
    Packer,
    Recipe,
    pack_awq,
    pack_compressed,
    pack_fp8,
    pack_gptq,
    pack_int8,
    write_quantized,
)

PROMPT = tuple(range(3, 40))


def gptq(bits: int = 4, group_size: int = 32, **more: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": group_size, **more}


def awq(group_size: int = 32) -> dict[str, Any]:
    return {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group_size,
        "zero_point": True,
        "version": "gemm",
    }


def compressed(
    layout: str, weights: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        **more,
    }


def packed(bits: int = 4, group_size: int = 32, **more: Any) -> dict[str, Any]:
    strategy = {"strategy": "group", "group_size": group_size}
    if group_size < 0:
        strategy = {"strategy": "channel"}
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False}
    return compressed("pack-quantized", weights | strategy | more)


INT8_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
FP8_WEIGHTS = INT8_WEIGHTS | {"type": "float"}
INT8_INPUTS = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "dynamic": True,
    "strategy": "token",
}


@dataclass(frozen=True)
class Format:
    """One way to store a checkpoint."""

    pack: Packer
    quantization: dict[str, Any]
    recipe: Recipe = field(default_factory=Recipe)


FORMATS = {
    "gptq": Format(pack_gptq, gptq()),
    "gptq-sym": Format(pack_gptq, gptq(sym=True), Recipe(symmetric=True)),
    "gptq-8bit": Format(pack_gptq, gptq(bits=8), Recipe(bits=8)),
    "gptq-rows": Format(pack_gptq, gptq(group_size=-1), Recipe(group_size=-1)),
    "gptq-64": Format(pack_gptq, gptq(group_size=64), Recipe(group_size=64)),
    "gptq-act-order": Format(pack_gptq, gptq(desc_act=True), Recipe(act_order=True)),
    "gptq-v2": Format(
        lambda weight, recipe: pack_gptq(weight, recipe, version=2),
        gptq(checkpoint_format="gptq_v2"),
    ),
    "awq": Format(pack_awq, awq()),
    "awq-64": Format(pack_awq, awq(group_size=64), Recipe(group_size=64)),
    "w4a16": Format(pack_compressed, packed(), Recipe(symmetric=True)),
    "w4a16-asym": Format(pack_compressed, packed(symmetric=False)),
    "w4a16-rows": Format(
        pack_compressed, packed(group_size=-1), Recipe(group_size=-1, symmetric=True)
    ),
    "w4a16-act-order": Format(
        pack_compressed, packed(actorder="group"), Recipe(symmetric=True, act_order=True)
    ),
    "w8a16-packed": Format(pack_compressed, packed(bits=8), Recipe(bits=8, symmetric=True)),
    "w8a16": Format(pack_int8, compressed("int-quantized", INT8_WEIGHTS)),
    "fp8": Format(pack_fp8, compressed("float-quantized", FP8_WEIGHTS)),
}


def logits(folder: Path, dtype: str = "float32") -> torch.Tensor:  # [num_tokens, vocab]
    return score(make_engine(folder, dtype=dtype))


def score(engine: Engine) -> torch.Tensor:  # [num_tokens, vocab]
    runner = engine.runner
    blocks = tuple(range(-(-len(PROMPT) // runner.block_size)))
    return runner.score(runner.compute([Chunk("s", 0, PROMPT, blocks, samples=True)]))


def linears(folder: Path) -> Mapping[str, Linear]:
    """The products before anybody packs them for a kernel."""
    return weights(prepare(Config(model=folder, dtype="float32", device="cpu"), MACHINE)).linears


def weights(recipe: Loading, *, gpu: bool = False) -> Weights:
    blob = BlobReader(recipe.placed, 2).start().wait()
    plan = WeightPlan(torch.float32, torch.device("cpu"), recipe.spec.quantization, gpu=gpu)
    return build_weights(blob, recipe.layout, recipe.placed, plan)


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantised_checkpoint_scores_like_its_dequantised_twin(tmp_path: Path, name: str) -> None:
    one = FORMATS[name]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization)
    expected = logits(tmp_path / "reference")
    torch.testing.assert_close(logits(tmp_path / "quantized"), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["gptq-8bit", "gptq-act-order", "awq-64", "w4a16-rows", "w8a16", "fp8"]
)
def test_kernels_for_gpus_score_alike(tmp_path: Path, name: str) -> None:
    one = FORMATS[name]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization)
    folder = tmp_path / "quantized"
    recipe = prepare(
        Config(model=folder, dtype="float32", device="cpu", kv_cache_tokens=512), MACHINE
    )
    packed = weights(recipe, gpu=True)
    products = [one for name, one in packed.linears.items() if name != HEAD]
    assert all(isinstance(one, WordsLinear | EightBitLinear | SideBySide) for one in products)
    model = build_decoder(recipe.spec, packed, pick_ops(torch.device("cpu"), fits_kernels=True))
    made = score(build_engine(recipe, model)[0])
    expected = logits(folder)
    loss = 0.15 if name == "fp8" else 1e-3  # inputs are rounded to 8 bits there
    assert (made - expected).norm() < loss * expected.norm()


def test_every_bit_of_a_word_has_its_place() -> None:
    words = torch.tensor([[0x76543210, -0x01234568]], dtype=torch.int32)
    assert unpack_words(words, 4).tolist() == [list(range(16))]
    assert unpack_words(words, 8)[0, :4].tolist() == [0x10, 0x32, 0x54, 0x76]


def test_different_orders_are_multiplied_side_by_side(tmp_path: Path) -> None:
    one = FORMATS["gptq-act-order"]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization)
    qkv = linears(tmp_path / "quantized")["layers.0.qkv"]
    assert isinstance(qkv, SideBySide)
    assert len(qkv.parts) == 3


def test_equal_groups_are_stacked(tmp_path: Path) -> None:
    one = FORMATS["awq"]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization)
    qkv = linears(tmp_path / "quantized")["layers.0.qkv"]
    assert isinstance(qkv, GroupedLinear)
    assert qkv.codes.shape == (128, 64)


def test_products_that_the_checkpoint_left_alone_stay_as_they_are(tmp_path: Path) -> None:
    ignored = ["lm_head", "model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj"]
    quantization = FORMATS["w4a16"].quantization | {"ignore": ignored}
    write_quantized(tmp_path, pack_compressed, Recipe(symmetric=True), quantization)
    expected = logits(tmp_path / "reference")
    torch.testing.assert_close(logits(tmp_path / "quantized"), expected, atol=2e-3, rtol=1e-3)


def test_columns_that_end_in_a_short_group(tmp_path: Path) -> None:
    shape = LlamaShape(hidden_size=96, num_attention_heads=6)
    one = FORMATS["gptq-64"]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization, shape)
    expected = logits(tmp_path / "reference")
    torch.testing.assert_close(logits(tmp_path / "quantized"), expected, atol=2e-3, rtol=1e-3)


def test_inputs_are_rounded_where_the_config_says_so(tmp_path: Path) -> None:
    quantization = compressed("int-quantized", INT8_WEIGHTS, INT8_INPUTS)
    write_quantized(tmp_path, pack_int8, Recipe(), quantization)
    out = linears(tmp_path / "quantized")["layers.0.out"]
    assert isinstance(out, Int8Linear)
    assert out.quantize_input
    expected = logits(tmp_path / "reference")
    worst = (logits(tmp_path / "quantized") - expected).abs().max()
    assert 0 < worst < 0.1 * expected.abs().max()


def test_a_bias_beyond_the_network_is_added(tmp_path: Path) -> None:
    def pack(weight: Any, recipe: Recipe) -> Packed:
        one = pack_gptq(weight, recipe)
        bias = np.linspace(-1, 1, len(weight), dtype=np.float32)
        return Packed(one.tensors | {"bias": bias}, one.weight)

    write_quantized(tmp_path, pack, Recipe(), gptq())
    out = linears(tmp_path / "quantized")["layers.0.out"]
    assert isinstance(out, GroupedLinear)
    assert out.bias is not None
    torch.testing.assert_close(out.bias, torch.linspace(-1, 1, 64))


@pytest.mark.parametrize("index", [[0] * 64, [0] * 32 + [9] * 32, [-1] * 32 + [0] * 32])
def test_a_group_index_that_makes_no_sense_is_named(index: list[int]) -> None:
    rng = np.random.default_rng(0)
    one = pack_gptq(rng.standard_normal((8, 64), dtype=np.float32), Recipe())
    leaves = {name: torch.from_numpy(tensor) for name, tensor in one.tensors.items()}
    leaves["g_idx"] = torch.tensor([*index[:31], 1 - index[31], *index[32:]])
    with pytest.raises(CheckpointBroken, match="layer: its group index"):
        unpack(parse_quantization(gptq()), "layer", leaves, 64)


@pytest.mark.parametrize("name", ["gptq-act-order", "w8a16"])
def test_a_network_in_bfloat16_takes_quantised_products_too(tmp_path: Path, name: str) -> None:
    one = FORMATS[name]
    write_quantized(tmp_path, one.pack, one.recipe, one.quantization)
    expected = logits(tmp_path / "reference", "bfloat16")
    worst = (logits(tmp_path / "quantized", "bfloat16") - expected).abs().max()
    assert worst < 0.1 * expected.abs().max()
