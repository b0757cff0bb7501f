"""No request can make a GPU wait for a compiler: whatever models launch was compiled ahead.

Models of every family run in the dtypes of GPUs, with every way to store weights and cache, through
the same launches as on a GPU; nothing is computed, each launch is only looked up. The compiler
itself is a tripwire.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from stoker_runtime.engine import assembly
from stoker_runtime.engine.runner import Runner
from stoker_runtime.engine.sampler import Sampler
from stoker_runtime.kernels.gpu import interpreter
from stoker_runtime.kernels.gpu import ops as gpu_ops
from stoker_runtime.kernels.gpu.catalogue import FILES, specialisations, specialisations_of
from stoker_runtime.kernels.gpu.launch import Grid, Value
from stoker_runtime.kernels.gpu.linear import pack_linear
from stoker_runtime.kernels.gpu.registry import ARCHS, Arch, Specialisation
from stoker_runtime.kernels.linear import Int8Linear
from stoker_runtime.model.decoder import Decoder
from stoker_runtime.model.weights import CACHE_DTYPES
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence as Seq
from stoker_runtime.schedule.step import Chunk
from support.draws import draw
from support.engines import make_model
from support.families import write_family

FAMILIES = ("smollm3-window", "qwen2", "qwen3", "gemma2", "gemma3", "phi4-partial", "qwen2-moe")
ROUNDED = ("qwen2", "qwen2-moe")
"""Of which weights are rounded, too: with biases, and experts."""
DTYPES = {"sm_80": "float16", "sm_90": "bfloat16"}
"""Each of one generation; both are compiled for both alike."""
DRAWING = ("adjust", "sampling")
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 48,
    "head_dim": 16,
}
WRITTEN = ("out_ptr", "q_ptr", "codes_ptr", "scales_ptr", "parts_ptr", "sums_ptr")
"""Arguments that kernels write: zeros do for what comes next."""
STEPS = (
    (Chunk("a", 0, tuple(range(3, 22)), (3, 4, 9, 6, 5), True), Chunk("b", 0, (5, 6), (1,), True)),
    (Chunk("a", 19, (9,), (3, 4, 9, 6, 5), True), Chunk("b", 2, (7,), (1,), True)),
)
WISHES: tuple[dict[str, object], ...] = (
    {"temperature": 0.0},
    {"top_p": 0.5, "frequency_penalty": 1.0},
    {"top_k": 3, "logit_bias": {4: 1.0}, "min_tokens": 2},
)


@pytest.fixture(params=[*ARCHS])
def arch(request: pytest.FixtureRequest) -> Arch:
    """A generation of GPUs."""
    return ARCHS[request.param]


@pytest.fixture
def launched(arch: Arch, monkeypatch: pytest.MonkeyPatch) -> set[Specialisation]:
    """Everything that is launched, on a GPU of the generation that computes zeros."""
    import triton

    compiled, found = set(specialisations(arch)), set[Specialisation]()

    def look_up(one: Specialisation, grid: Grid, values: Sequence[Value]) -> None:
        assert one in compiled, f"{one.key} was not compiled for {arch.name}"
        found.add(one)
        for argument, type_, value in zip(
            one.kernel.arguments, one.signature.values(), values, strict=True
        ):
            interpreter.check(one, argument, type_, value)
            if argument.name in WRITTEN and isinstance(value, torch.Tensor):
                value.zero_()

    def trip(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is compiled")

    monkeypatch.setattr(triton, "compile", trip)
    monkeypatch.setattr(triton.JITFunction, "run", trip)
    monkeypatch.setattr(interpreter, "interpret", look_up)
    for module in ("attention", "moe", "w4a16"):
        monkeypatch.setattr(f"stoker_runtime.kernels.gpu.{module}.find_arch", lambda _: arch.name)
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    monkeypatch.setattr(assembly, "has_kernels", lambda _: True)
    return found


def run_steps(model: Decoder, cache: str) -> None:
    runner = Runner(model, 12, 4, CACHE_DTYPES[cache])
    for step in STEPS:
        runner.run(step)


def test_whatever_models_launch_was_compiled(
    tmp_path: Path, arch: Arch, launched: set[Specialisation]
) -> None:
    dtype, rounded = DTYPES[arch.name], ("int8", "fp8") if arch.has_fp8 else ("int8",)
    for family in FAMILIES:
        write_family(tmp_path / family, family, **SIZES)
        model = make_model(tmp_path / family, dtype=dtype)
        for cache in (dtype, *rounded):
            run_steps(model, cache)
    for family, quantization in itertools.product(ROUNDED, ("int4", *rounded)):
        run_steps(make_model(tmp_path / family, dtype=dtype, quantization=quantization), dtype)
    assert {one.kernel.module for one in launched} >= {*FILES} - {*DRAWING, "rows", "w8a8"}


def test_whatever_8_bit_inputs_launch_was_compiled(
    arch: Arch, launched: set[Specialisation]
) -> None:
    codes, scales = torch.zeros(48, 64, dtype=torch.int8), torch.ones(48)
    dtype = CACHE_DTYPES[DTYPES[arch.name]]
    for bias in (None, torch.zeros(48, dtype=dtype)):
        linear = pack_linear(Int8Linear(codes, scales, bias, quantize_input=True))
        assert linear(torch.zeros(3, 64, dtype=dtype)).shape == (3, 48)
    assert {one.kernel.module for one in launched} == {"rows", "w8a8"}


def test_whatever_draws_launch_was_compiled(arch: Arch, launched: set[Specialisation]) -> None:
    sampler = Sampler(torch.device("cpu"), 40, by_kernel=True)
    for fields in WISHES:
        seq = Seq(str(fields), (1, 2), SamplingParams(max_tokens=9, **fields), frozenset({7}), 1)  # type: ignore[arg-type]
        assert draw(torch.zeros(1, 40), [seq], sampler) != [None]
    assert launched == {one for file in DRAWING for one in specialisations_of(file, arch)}
