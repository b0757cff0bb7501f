"""How long products take for every way to store weights, beside those of bfloat16.

Knows the kernels of `kernels/gpu`; does not know engines. Whether they are right, their tests say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from figures import Figure
from stand import Stand
from stopwatch import measure_replayed_s

from stoker_runtime.kernels.gpu.linear import pack_linear
from stoker_runtime.kernels.linear import DenseLinear, GroupedLinear, Linear
from stoker_runtime.quant.join import join
from stoker_runtime.quant.rounding import quantize_fp8, quantize_int8

DTYPE = torch.bfloat16
KINDS = ("bf16", "int4", "int4, groups of 32", "int8", "W8A8", "fp8")
SHAPES = ((14336, 4096), (4096, 14336), (6144, 4096))
"""Outputs and inputs of a Llama of 8B: gate or up, down, q with k and v."""
ROWS = (1, 4, 16, 64, 512, 4096)
FEW_ROWS = 16
GOALS = {"int4": 2.5, "int8": 1.5, "fp8": 1.5}
"""Times bf16's speed, for few rows."""
_CACHE_BYTES = 256 << 20
"""More than a card's L2: products of one round take turns among weights of this size."""


def make_product(kind: str, outputs: int, inputs: int, device: torch.device) -> Linear:
    """A random one, for our kernels."""
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
    return pack_linear(join([plain]))


def measure(stand: Stand) -> Iterator[Figure]:
    """The part `products`: times bf16's speed, and the share of the copy rate of one row."""
    shapes, rows = (((48, 128),), (1, 5)) if stand.is_dry else (SHAPES, ROWS)
    for outputs, inputs in shapes:
        plain_s: dict[int, float] = {}
        for kind in KINDS:
            copies = 1 if stand.is_dry else max(1, _CACHE_BYTES // (outputs * inputs * 2))
            several = [make_product(kind, outputs, inputs, stand.device) for _ in range(copies)]
            taken_s = {num: _measure_rows(several, num, inputs, stand.device) for num in rows}
            plain_s = plain_s or taken_s
            yield from _compare(f"{inputs} → {outputs}, {kind}", kind, plain_s, taken_s)
            moved = weight_bytes(kind) * outputs * inputs / taken_s[1]
            what = f"1 × {inputs} → {outputs}, {kind}, of the copy rate"
            yield Figure(what, moved / stand.copied_bytes_per_s, "")


def _measure_rows(
    several: Sequence[Linear], num_rows: int, inputs: int, device: torch.device
) -> float:
    x = torch.randn(num_rows, inputs, device=device).to(DTYPE)
    return measure_replayed_s(take_turns(several, x))


def _compare(
    what: str, kind: str, plain_s: dict[int, float], taken_s: dict[int, float]
) -> Iterator[Figure]:
    for num, seconds in taken_s.items():
        goal = GOALS.get(kind) if num <= FEW_ROWS else None
        yield Figure(f"{num} × {what}, times bf16", plain_s[num] / seconds, "", goal)


def take_turns(linears: Sequence[Linear], x: torch.Tensor) -> Callable[[], torch.Tensor]:
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
