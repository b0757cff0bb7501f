"""All layers in one call compute what the layers compute one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels.native import find_library
from stoker_runtime.kernels.packed import PackedLinear, pack_linear
from stoker_runtime.model.layers import Experts
from stoker_runtime.model.program import make_program
from stoker_runtime.quant.rounding import quantize_int8
from stoker_runtime.schedule.step import Chunk
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import make_model
from support.families import FAMILIES, write_family
from support.quantized import Packed, Recipe, pack_gptq, write_quantized

pytestmark = pytest.mark.skipif(find_library() is None, reason="the library is not built")
OTHERS = ("phi3-longrope",)
"""It has factors for heads of its own size."""
EVEN = {"hidden_size": 64, "head_dim": 16}
MIXTURES = {
    "mixtral": EVEN,
    "qwen2-moe": EVEN | {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 48},
    "qwen3-moe": EVEN | {"moe_intermediate_size": 32},
}
"""Whole panels, as those of real models are."""
WIDE = LlamaShape(head_dim=16, intermediate_size=96)
STEPS = (
    [Chunk("a", 0, tuple(range(40)), tuple(range(12)), samples=True)],
    [
        Chunk("a", 40, (7,), tuple(range(12)), samples=True),
        Chunk("b", 0, tuple(range(3, 80)), tuple(range(12, 40)), samples=True),
        Chunk("c", 0, (5,), (40,), samples=False),
    ],
    [
        Chunk("a", 41, (9,), tuple(range(12)), samples=True),
        Chunk("b", 77, (1, 2, 3), tuple(range(12, 40)), samples=True),
        Chunk("c", 1, (6,), (40,), samples=True),
    ],
)


def make_runner(folder: Path, kv: torch.dtype = torch.float32, **settings: object) -> Runner:
    return Runner(make_model(folder, **settings), 48, 4, kv)


def make_twin(runner: Runner) -> Runner:
    """The same model with a cache of its own, whose layers run one by one."""
    twin = Runner(runner.model, 48, 4, runner.caches.data.dtype)
    twin.__dict__["_program"] = None
    return twin


def read_all(runner: Runner) -> torch.Tensor:
    """Keys and values of all layers as numbers."""
    data, scales = runner.caches.data, runner.caches.scales
    return data.clone() if scales is None else data * scales[..., None]


def assert_equal(runner: Runner, tolerance: float = 1e-4) -> None:
    twin = make_twin(runner)
    assert runner._program is not None
    for step in STEPS:
        made, expected = runner.compute(step), twin.compute(step)
        torch.testing.assert_close(made, expected, atol=tolerance, rtol=tolerance)
        caches = [read_all(one) for one in (runner, twin)]
        torch.testing.assert_close(*caches, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in OTHERS])
def test_a_program_equals_its_layers(tmp_path: Path, family: str) -> None:
    write_family(tmp_path, family, **MIXTURES.get(family, EVEN))
    assert_equal(make_runner(tmp_path))


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("family", MIXTURES)
def test_codes_of_experts_run_in_programs_too(
    tmp_path: Path, family: str, quantization: str
) -> None:
    write_family(tmp_path, family, **MIXTURES[family])
    assert_equal(make_runner(tmp_path, quantization=quantization), 3e-3)


def test_experts_of_broken_panels_keep_their_layers(tmp_path: Path) -> None:
    write_family(tmp_path, "qwen3-moe", **EVEN)
    assert make_runner(tmp_path)._program is None


def test_experts_that_differ_in_kind_keep_their_layers(tmp_path: Path) -> None:
    write_family(tmp_path, "mixtral", **EVEN)
    runner = make_runner(tmp_path)
    experts = runner.model.layers[1].mlp
    assert isinstance(experts, Experts)
    downs = [expert.down for expert in experts.mlps]
    odd = replace(experts.mlps[2], down=pack_linear(quantize_int8(torch.randn(64, 48))))
    mlps = (*experts.mlps[:2], odd, experts.mlps[3])
    layers = list(runner.model.layers)
    layers[1] = replace(layers[1], mlp=replace(experts, mlps=mlps))
    model = replace(runner.model, layers=tuple(layers))
    assert isinstance(downs[0], PackedLinear)
    assert make_program(model, runner.caches, downs[0].library) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_token_that_is_not_finite_spoils_no_other_of_its_experts(
    tmp_path: Path, bad: float
) -> None:
    write_family(tmp_path, "qwen2-moe", **MIXTURES["qwen2-moe"])
    runner = make_runner(tmp_path)
    runner.model.embed.held[0] = bad
    ids, tables = ((0,), tuple(range(1, 30))), ((0,), tuple(range(1, 9)))
    step = [Chunk(str(i), 0, ids[i], tables[i], samples=True) for i in range(2)]
    made = runner.compute(step)
    assert not made[0].isfinite().any()
    assert made[1:].isfinite().all()


def test_columns_in_activation_order_run_in_programs_too(tmp_path: Path) -> None:
    """Products of one input were calibrated on one input, so that they agree on the order."""
    config = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}

    def pack(weight: NDArray[np.float32], recipe: Recipe) -> Packed:
        return pack_gptq(weight, replace(recipe, seed=weight.shape[1]))

    write_quantized(tmp_path, pack, Recipe(act_order=True), config, WIDE)
    runner = make_runner(tmp_path / "quantized")
    assert_equal(runner, 1e-3)
    alike = make_runner(tmp_path / "reference").compute(STEPS[0])
    torch.testing.assert_close(
        make_runner(tmp_path / "quantized").compute(STEPS[0]), alike, atol=1e-2, rtol=1e-3
    )


def test_weights_in_float16_are_multiplied_as_they_are_stored(tmp_path: Path) -> None:
    model = write_family(tmp_path, "llama2", **EVEN).half()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    runner = make_runner(tmp_path)
    assert isinstance(product := runner.model.layers[0].qkv, PackedLinear)
    assert product.weight.kind == 2
    assert_equal(runner)
    wide = write_family(tmp_path / "wide", "llama2", **EVEN).half().float()
    wide.save_pretrained(tmp_path / "wide")  # type: ignore[operator]
    expected = make_runner(tmp_path / "wide").compute(STEPS[0])
    torch.testing.assert_close(make_runner(tmp_path).compute(STEPS[0]), expected)


@pytest.mark.parametrize("family", ["llama2", "gemma2", "qwen3"])
def test_keys_and_values_are_rounded_in_programs_too(tmp_path: Path, family: str) -> None:
    write_family(tmp_path, family, hidden_size=64, head_dim=16)
    assert_equal(
        make_runner(tmp_path, torch.int8), 2e-2
    )  # where sums differ in the last bit, a code may be the next one
    rounded, plain = (make_runner(tmp_path, kind) for kind in (torch.int8, torch.float32))
    made = [(one.compute(STEPS[0]), read_all(one))[1] for one in (rounded, plain)]
    assert 0 < (made[0] - made[1]).abs().max() < 0.1 * made[1].abs().max()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_program_hides_nothing_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    runner = make_runner(write_checkpoint(tmp_path, WIDE), torch.int8)
    runner.model.embed.held[:, 7, 0] = torch.tensor(bad).view(torch.int32)  # token 0
    made = runner.compute([Chunk("a", 0, (0, 5), (0,), samples=True)])
    assert not made[0].isfinite().any()
    assert not read_all(runner)[:, :, :1].isfinite().all()


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_codes_run_in_programs_too(tmp_path: Path, quantization: str) -> None:
    runner = make_runner(write_checkpoint(tmp_path, WIDE), quantization=quantization)
    assert_equal(runner, 1e-3)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        (WIDE, {"dtype": "bfloat16"}),
        (LlamaShape(head_dim=16, intermediate_size=104), {}),
        (LlamaShape(head_dim=8), {}),
    ],
    ids=["a bfloat16 network", "gates of broken panels", "heads of half a panel"],
)
def test_what_no_program_can_run_keeps_its_layers(
    tmp_path: Path, shape: LlamaShape, settings: dict[str, str]
) -> None:
    runner = make_runner(write_checkpoint(tmp_path, shape), **settings)
    library = find_library()
    assert library is not None
    assert make_program(runner.model, runner.caches, library) is None
    assert runner.compute(STEPS[0]).isfinite().all()


def test_without_the_library_layers_run_on_torch(tmp_path: Path) -> None:
    runner = make_runner(write_checkpoint(tmp_path, WIDE))
    made = runner.compute(STEPS[0])
    alone = make_runner(tmp_path)
    alone._library = None
    torch.testing.assert_close(alone.compute(STEPS[0]), made, atol=2e-5, rtol=2e-5)
