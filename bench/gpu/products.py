"""Products of every way to store weights: first whether they are right, then how long they take.

Knows the kernels of `kernels/gpu` and their twins; does not know engines. On a CPU, where Triton
interprets kernels, the same checks run with small shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from stopwatch import Peaks, measure_replayed_s

from stoker_runtime.kernels.gpu import moe
from stoker_runtime.kernels.gpu.linear import pack_linear
from stoker_runtime.kernels.linear import DenseLinear, GroupedLinear, Linear
from stoker_runtime.kernels.reference import silu_and_multiply
from stoker_runtime.quant.join import join
from stoker_runtime.quant.rounding import quantize_fp8, quantize_int8

DTYPE = torch.bfloat16
KINDS = ("bf16", "int4", "int4, groups of 32", "int8", "W8A8", "fp8")
SHAPES = ((14336, 4096), (4096, 14336), (6144, 4096))
"""Outputs and inputs of a Llama of 8B: gate or up, down, q with k and v."""
ROWS = (1, 4, 16, 64, 512, 4096)
_CACHE_BYTES = 256 << 20
"""More than a card's L2: products of one round take turns among weights of this size."""


@dataclass(frozen=True)
class Product:
    """The same product as torch computes it and as our kernels do."""

    kind: str
    plain: Linear
    packed: Linear


def make_product(kind: str, outputs: int, inputs: int, device: torch.device) -> Product:
    """A random one."""
    weight = torch.randn(outputs, inputs, device=device) / inputs**0.5
    match kind:
        case "bf16":
            plain: Linear = DenseLinear(weight.to(DTYPE))
        case "int8":
            plain = quantize_int8(weight)
        case "W8A8":
            int8 = quantize_int8(weight)
            plain = type(int8)(int8.codes, int8.scales, None, quantize_input=True)
        case "fp8":
            plain = quantize_fp8(weight)
        case _:
            group = 32 if "32" in kind else 128
            codes = torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, device=device)
            scales = torch.rand(outputs, inputs // group, device=device).half().float() / 64
            zeros = torch.randint(0, 16, scales.shape, device=device).float()
            plain = GroupedLinear(codes, scales, zeros, group, bits=4)
    return Product(kind, plain, pack_linear(join([plain])))


def check(device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Name, relative error and what it may be, of every kind of product and of experts."""
    shapes = ((272, 512), (144, 1152)) if device.type == "cuda" else ((48, 128),)
    rows = (1, 5, 16, 33, 64, 100, 300) if device.type == "cuda" else (3,)
    for kind in KINDS:
        for outputs, inputs in shapes:
            one = make_product(kind, outputs, inputs, device)
            bound = 0.06 if kind == "fp8" else 0.02 if kind == "W8A8" else 6e-3
            for num in rows:
                x = torch.randn(num, inputs, device=device).to(DTYPE)
                expected = one.plain(x.float()) if kind != "bf16" else one.plain(x).float()
                yield f"{kind} {num} × {inputs} · {outputs}", error(one.packed(x), expected), bound
    yield from check_experts(device)


def check_experts(device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Mixtures of experts, dense and rounded, beside torch token by token."""
    for kind in ("bf16", "int4", "int8"):
        ups = [make_product(kind, 256, 128, device).packed for _ in range(4)]
        downs = [make_product(kind, 128, 128, device).packed for _ in range(4)]
        mixture = moe.group_experts(ups, downs, silu_and_multiply)
        assert mixture is not None, f"experts of {kind} have a kernel"
        for num in (1, 70) if device.type == "cuda" else (2,):
            x = torch.randn(num, 128, device=device).to(DTYPE)
            weights, chosen = torch.randn(num, 4, device=device).softmax(-1).topk(2)
            expected = moe.mix_reference(x, mixture, weights.to(DTYPE), chosen)
            yield f"experts {kind}, {num}", error(mixture(x, weights, chosen), expected), 2e-2


def error(made: torch.Tensor, expected: torch.Tensor) -> float:
    """‖made - expected‖ / ‖expected‖; what is not finite never passes."""
    distance = float((made.float() - expected.float()).norm() / expected.float().norm())
    return distance if torch.isfinite(made).all() else float("inf")


def measure(peaks: Peaks) -> Iterator[list[str]]:
    """Rows of the table: shape, rows, kind, µs, times bf16's, share of the copy bandwidth."""
    for outputs, inputs in SHAPES:
        plain_us: dict[int, float] = {}
        for kind in KINDS:
            copies = max(1, _CACHE_BYTES // (outputs * inputs * 2))
            several = [
                make_product(kind, outputs, inputs, torch.device("cuda")) for _ in range(copies)
            ]
            for num in ROWS:
                x = torch.randn(num, inputs, device="cuda").to(DTYPE)
                us = 1e6 * measure_replayed_s(take_turns([one.packed for one in several], x))
                plain_us.setdefault(num, us)
                moved = weight_bytes(kind) * outputs * inputs / (us / 1e6)
                yield [
                    f"{inputs} → {outputs}", str(num), kind, f"{us:.1f}",
                    f"{plain_us[num] / us:.2f}", f"{moved / peaks.copied_bytes_per_s:.0%}",
                ]  # fmt: skip


def take_turns(linears: list[Linear], x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that multiplies with the next weight each time."""
    number = 0

    def work() -> torch.Tensor:
        nonlocal number
        number += 1
        return linears[number % len(linears)](x)

    return work


def weight_bytes(kind: str) -> float:
    """Of one weight, with its share of scales and zeros."""
    table = {"bf16": 2, "int4": 0.5 + 3 / 128, "int4, groups of 32": 0.5 + 3 / 32}
    return table.get(kind, 1 + 3 / 64 if kind == "int8" else 1)
