"""Products of one input become one where that changes nothing, and stay apart elsewhere."""

from __future__ import annotations

import torch

from stoker_runtime.kernels.linear import DenseLinear, GroupedLinear, Int8Linear, Linear, SideBySide
from stoker_runtime.quant.join import join, stack
from stoker_runtime.quant.rounding import quantize_int4, quantize_int8

X = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
BIAS = torch.linspace(-1, 1, 24)


def weight(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))


def check(parts: list[Linear], kind: type) -> None:
    joined = join(parts, BIAS)
    assert isinstance(joined, kind)
    expected = torch.cat([part(X) for part in parts], dim=-1) + BIAS
    torch.testing.assert_close(joined(X), expected)


def test_equal_kinds_are_stacked() -> None:
    check([quantize_int4(weight(16, 1)), quantize_int4(weight(8, 2))], GroupedLinear)
    check([quantize_int8(weight(16, 1)), quantize_int8(weight(8, 2))], Int8Linear)
    check([DenseLinear(weight(16, 1)), DenseLinear(weight(8, 2))], DenseLinear)


def test_different_kinds_stay_side_by_side() -> None:
    check([quantize_int4(weight(16, 1)), DenseLinear(weight(8, 2))], SideBySide)
    check([quantize_int4(weight(16, 1)), quantize_int8(weight(8, 2))], SideBySide)


def test_inputs_that_are_rounded_and_others_stay_side_by_side() -> None:
    one = quantize_int8(weight(16, 1))
    joined = join([Int8Linear(one.codes, one.scales, quantize_input=True), one])
    assert isinstance(joined, SideBySide)


def test_neighbours_in_memory_are_not_copied() -> None:
    whole = torch.arange(60).view(10, 6)
    stacked = stack([whole[:4], whole[4:7], whole[7:]])
    assert torch.equal(stacked, whole)
    assert stacked.data_ptr() == whole.data_ptr()


def test_others_are_copied() -> None:
    whole = torch.arange(60).view(10, 6)
    for parts in ([whole[4:], whole[:4]], [whole[:4], whole[5:]], [whole[:, :3], whole[:, 3:]]):
        stacked = stack(parts)
        assert torch.equal(stacked, torch.cat(parts))
        assert stacked.data_ptr() != whole.data_ptr()
