"""Every kind of product as GPUs compute it, interpreted, beside torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stoker_runtime.kernels.gpu.linear import (
    EightBitLinear,
    WordsLinear,
    pack_linear,
)
from stoker_runtime.kernels.linear import (
    DenseLinear,
    Fp8Linear,
    GroupedLinear,
    Int8Linear,
    Linear,
    SideBySide,
)
from support.gpu import EXACT, assert_near

ROWS, COLS = 48, 96


def make_grouped(bits: int, group: int, *, ordered: bool = False) -> GroupedLinear:
    codes = torch.randint(0, 1 << bits, (ROWS, COLS), dtype=torch.uint8)
    scales = (torch.rand(ROWS, COLS // group) + 0.5).half().float()
    zeros = torch.randint(0, 1 << bits, scales.shape).float()
    order = torch.randperm(COLS) if ordered else None
    return GroupedLinear(codes, scales, zeros, group, bits, order, torch.randn(ROWS, dtype=EXACT))


def make_int8(*, quantize_input: bool) -> Int8Linear:
    codes = torch.randint(-128, 128, (ROWS, COLS), dtype=torch.int8)
    return Int8Linear(codes, torch.rand(ROWS).half().float(), None, quantize_input)


def make_fp8() -> Fp8Linear:
    return Fp8Linear(torch.randn(ROWS, COLS).to(torch.float8_e4m3fn), torch.rand(ROWS))


@pytest.mark.parametrize(
    ("make", "kind", "bound"),
    [
        (lambda: make_grouped(4, 32), WordsLinear, 1e-5),
        (lambda: make_grouped(3, 96), WordsLinear, 1e-5),
        (lambda: make_grouped(8, 32), WordsLinear, 1e-5),
        (lambda: make_grouped(4, 32, ordered=True), WordsLinear, 1e-5),
        (lambda: make_int8(quantize_input=False), WordsLinear, 1e-3),
        (lambda: make_int8(quantize_input=True), EightBitLinear, 1e-5),
        (make_fp8, EightBitLinear, 5e-2),
        (lambda: SideBySide((make_grouped(4, 32), make_fp8())), SideBySide, 5e-2),
    ],
    ids=["int4", "int3", "int8 groups", "ordered", "int8", "w8a8", "fp8", "side by side"],
)
def test_packed_products_equal_torchs(make: Callable[[], Linear], kind: type, bound: float) -> None:
    torch.manual_seed(0)
    linear, x = make(), torch.randn(5, COLS, dtype=EXACT)
    packed = pack_linear(linear)
    assert isinstance(packed, kind)
    assert_near(packed(x), linear(x), bound)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DenseLinear(torch.randn(ROWS, COLS)),
        lambda: Int8Linear(torch.zeros(4, 16).to(torch.int8), torch.ones(4), quantize_input=True),
        lambda: Fp8Linear(torch.zeros(16, 4).to(torch.float8_e4m3fn), torch.ones(16)),
        lambda: GroupedLinear(
            torch.zeros(16, 48).to(torch.uint8), torch.ones(16, 3), torch.ones(16, 3), 16, 4
        ),
    ],
    ids=["dense", "few outputs", "few inputs", "small groups"],
)
def test_what_no_kernel_fits_stays_on_torch(make: Callable[[], Linear]) -> None:
    linear = make()
    assert pack_linear(linear) is linear
