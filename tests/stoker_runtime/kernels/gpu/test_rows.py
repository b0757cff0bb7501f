"""Rows rounded to 8 bits, interpreted, beside torch."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels.gpu.rows import round_rows
from support import twins
from support.gpu import CODES, DTYPES, EXACT


@pytest.mark.parametrize("codes", CODES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 16), (3, 1040), (5, 2064)], ids=str)
def test_rows_are_rounded_by_their_largest_value(
    shape: tuple[int, int], dtype: torch.dtype, codes: torch.dtype
) -> None:
    torch.manual_seed(shape[1])
    x = torch.randn(shape).to(dtype)
    made, scales = round_rows(x, codes)
    expected, expected_scales = twins.round_rows(x, codes)
    torch.testing.assert_close(scales, expected_scales)
    steps = (made.float() - expected.float()).abs()
    assert bool((steps <= expected.float().abs() / 8 + (codes == torch.int8)).all())
    assert float((steps > 0).float().mean()) < 0.01  # numbers that lie between two codes


def test_a_row_of_zeros_stays_one() -> None:
    made, scales = round_rows(torch.zeros(2, 32, dtype=EXACT), torch.int8)
    assert not made.any()
    assert bool((scales > 0).all())


def test_rows_are_added_for_products_that_want_more() -> None:
    made, scales = round_rows(torch.ones(2, 32, dtype=EXACT), torch.int8, num_rows=32)
    assert (made.shape, scales.shape) == ((32, 32), (2, 1))
    assert bool((made[:2] == 127).all())
