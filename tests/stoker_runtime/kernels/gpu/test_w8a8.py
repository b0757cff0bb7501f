"""The kernels behind 8-bit products, interpreted, beside torch."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels.gpu.w8a8 import (
    Sums,
    finish,
    multiply,
)
from support import twins
from support.gpu import DTYPES, EXACT, assert_near

SHAPES = [(1, 16), (5, 100), (17, 256), (33, 131)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_scaled_by_row_and_column(
    shape: tuple[int, int], has_bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(shape[0])
    sums = torch.randint(-(10**6), 10**6, shape, dtype=torch.int32)
    bias = torch.randn(shape[1]).to(dtype) if has_bias else None
    product = Sums(sums, torch.rand(shape[0], 1) / 1e3, torch.rand(shape[1]) / 1e3, bias)
    torch.testing.assert_close(
        finish(product, dtype), twins.finish(product, dtype), atol=1e-6, rtol=1 / 128
    )


@pytest.mark.parametrize("num_tokens", [1, 17, 40])
def test_products_equal_torchs(num_tokens: int) -> None:
    torch.manual_seed(num_tokens)
    codes = torch.randint(-127, 128, (48, 96), dtype=torch.int8)
    x, bias = torch.randn(num_tokens, 96, dtype=EXACT), torch.randn(48, dtype=EXACT)
    scales = torch.rand(48) / 100
    expected = twins.multiply_eight_bits(x, codes, scales, bias)
    assert_near(multiply(x, codes, scales, bias), expected)
