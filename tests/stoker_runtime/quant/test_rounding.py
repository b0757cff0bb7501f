"""Rounding stays within half a step, and clipping is only chosen where it helps."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels.linear import GroupedLinear, Int8Linear
from stoker_runtime.quant.rounding import (
    fit_grid,
    quantize,
    quantize_int4,
    quantize_int8,
    search_grid,
)


def random_weight(rows: int = 24, columns: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def dequantized(linear: GroupedLinear | Int8Linear, columns: int) -> torch.Tensor:
    return linear(torch.eye(columns)).t()


def test_eight_bits_are_off_by_half_a_step_at_most() -> None:
    weight = random_weight()
    linear = quantize_int8(weight)
    error = (dequantized(linear, 96) - weight).abs()
    assert bool((error <= linear.scales[:, None] * 0.501).all())
    assert linear.codes.abs().max() == 127


def test_four_bits_are_off_by_half_a_step_where_nothing_is_clipped() -> None:
    values = random_weight().view(24, 3, 32)
    grid = fit_grid(values, 4, symmetric=False)
    codes = grid.round(values)
    assert codes.min() == 0
    assert codes.max() == 15
    error = (grid.restore(codes) - values).abs()
    assert bool(
        (error <= grid.scales * 1.001).all()
    )  # the rounded zero moves an end by half a step


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_searched_grid_is_never_worse_than_the_whole_range(symmetric: bool) -> None:
    values = random_weight().view(24, 3, 32) ** 3  # long tails: clipping pays
    full = fit_grid(values, 4, symmetric=symmetric)
    best = search_grid(values, 4, symmetric=symmetric)

    def errors(grid: object) -> torch.Tensor:
        return (grid.restore(grid.round(values)) - values).square().sum(-1)  # type: ignore[attr-defined]

    assert bool((errors(best) <= errors(full) * 1.0001).all())
    assert errors(best).sum() < 0.99 * errors(full).sum()


def test_important_columns_are_rounded_better() -> None:
    values = random_weight().view(24, 3, 32) ** 3
    weights = torch.ones(1, 3, 32)
    weights[..., :4] = 1000.0
    plain = search_grid(values, 4, symmetric=True)
    aware = search_grid(values, 4, symmetric=True, weights=weights)
    errors = [(g.restore(g.round(values)) - values)[..., :4].square().sum() for g in (plain, aware)]
    assert errors[1] <= errors[0]


@pytest.mark.parametrize("target", ["int8", "int4", "fp8"])
def test_zeros_stay_zeros(target: str) -> None:
    linear = quantize(torch.zeros(8, 64), target)  # type: ignore[arg-type]
    assert not bool(dequantized(linear, 64).any())


def test_large_matrices_are_rounded_in_slices_and_small_ones_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = random_weight()
    whole = [dequantized(quantize_int8(weight), 96), dequantized(quantize_int4(weight), 96)]
    monkeypatch.setattr("stoker_runtime.quant.rounding._SLICE_ELEMENTS", 5 * 96)
    sliced = [dequantized(quantize_int8(weight), 96), dequantized(quantize_int4(weight), 96)]
    assert all(torch.equal(one, other) for one, other in zip(whole, sliced, strict=True))


def test_columns_that_no_group_divides_get_eight_bits() -> None:
    assert isinstance(quantize_int4(random_weight(columns=40)), Int8Linear)
    assert quantize_int4(random_weight(columns=48)).group_size == 16  # type: ignore[union-attr]
