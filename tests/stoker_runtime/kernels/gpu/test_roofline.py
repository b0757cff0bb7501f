"""The least times of products, by hand."""

from __future__ import annotations

import pytest

from stoker_runtime.kernels.gpu.registry import ARCHS
from stoker_runtime.kernels.gpu.roofline import (
    CARDS,
    STORAGES,
    Card,
    Shape,
    Storage,
    estimate_all,
    estimate_product,
    estimate_step,
)

CARD = Card("a card", "sm_90", 1e12, 100e12)
BF16, INT4 = STORAGES[0], STORAGES[-1]


def test_one_row_is_bound_by_memory() -> None:
    made = estimate_product(Shape(1, 1000, 1000), BF16, CARD)
    assert made.is_bound_by_memory
    assert made.seconds == pytest.approx((2_000_000 + 4000) / 1e12)


def test_many_rows_are_bound_by_sums() -> None:
    made = estimate_product(Shape(4000, 1000, 1000), BF16, CARD)
    assert not made.is_bound_by_memory
    assert made.seconds == pytest.approx(2 * 4000 * 1e6 / 100e12)


def test_eight_bits_sum_twice_as_fast() -> None:
    shape = Shape(4000, 1000, 1000)
    slow, fast = (estimate_product(shape, Storage("", 1.0, x), CARD).seconds for x in (1.0, 2.0))
    assert slow == pytest.approx(2 * fast)


def test_four_bits_are_read_almost_four_times_as_fast() -> None:
    wide, narrow = (estimate_step(1, 0, one, CARD).seconds for one in (BF16, INT4))
    assert 3.7 < wide / narrow < 4


def test_every_generation_has_a_card() -> None:
    assert {card.arch for card in CARDS} == set(ARCHS)
    assert all(list(estimate_all(arch)) for arch in ARCHS)
