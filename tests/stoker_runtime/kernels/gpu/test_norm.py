"""The norm's kernel equals its twin in torch, in every dtype and width."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.gpu import norm
from stoker_runtime.kernels.reference import RmsNorm
from support.gpu import DTYPES, assert_close


@pytest.mark.parametrize("is_gemma", [False, True], ids=["llama", "gemma"])
@pytest.mark.parametrize(
    ("rows", "hidden"),
    [(1, 64), (6, 576), (2, 2064), (7, 16), (5, 1024), (3, 1040), (2, 5120), (3, 16384)],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_are_kept_and_normalised(
    rows: int, hidden: int, dtype: torch.dtype, is_gemma: bool
) -> None:
    torch.manual_seed(rows)
    x, added = torch.randn(2, rows, hidden).to(dtype).unbind(0)
    weights = torch.randn(2, hidden)
    first, second = (RmsNorm(w if is_gemma else w.to(dtype), 1e-6) for w in weights)
    kept, expected = x.clone(), x.clone()
    added_norm = first if is_gemma else None
    made = norm.add_and_normalise(kept, added, added_norm, second)
    assert_close(made, reference.add_and_normalise(expected, added, added_norm, second))
    assert_close(kept, expected)
