"""Products of 8-bit floats: our rounding interpreted, torch's own product, beside plain torch."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels.gpu.fp8 import multiply
from support.gpu import CODES, DTYPES, assert_near
from support.twins import multiply_eight_bits, round_rows


@pytest.mark.skipif(torch.float8_e4m3fn not in CODES, reason="the GPU has no 8-bit floats")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_tokens", [1, 5, 33])
def test_products_equal_torchs(num_tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(num_tokens)
    codes, scales = round_rows(torch.randn(48, 96), torch.float8_e4m3fn)
    x, bias = torch.randn(num_tokens, 96).to(dtype), torch.randn(48).to(dtype)
    for one in (None, bias):
        expected = multiply_eight_bits(x.float(), codes, scales[:, 0], one)
        assert_near(multiply(x, codes, scales[:, 0], one), expected, 5e-3)
