"""Heads rounded to 8 bits come back within half a step, and nothing that is not finite hides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.kernels.cache import LIMITS, KvCache, round_heads


@given(seed=st.integers(0, 1000), size=st.floats(1e-20, 1e20))
def test_each_head_is_within_half_a_step(seed: int, size: float) -> None:
    x = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(seed)) * size
    codes, scales = round_heads(x, torch.int8)
    assert (codes.dtype, scales.dtype) == (torch.int8, torch.float32)
    worst = (codes * scales[..., None] - x).abs().amax(dim=-1)
    assert bool((worst <= scales * 0.501).all())
    assert torch.equal(codes.abs().amax(dim=-1), torch.full((3, 2), 127, dtype=torch.int8))


@given(seed=st.integers(0, 1000), size=st.floats(1e-20, 1e20))
def test_floats_keep_three_bits_behind_the_first(seed: int, size: float) -> None:
    x = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(seed)) * size
    codes, scales = round_heads(x, torch.float8_e4m3fn)
    assert codes.dtype == torch.float8_e4m3fn
    assert torch.equal(codes.float().abs().amax(dim=-1), torch.full((3, 2), 448.0))
    distance = (codes.float() * scales[..., None] - x).abs()
    assert bool((distance <= (x.abs() / 16).maximum(scales[..., None] * 2**-10) * 1.001).all())


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_a_head_of_zeros_stays_zero(dtype: torch.dtype) -> None:
    codes, scales = round_heads(torch.zeros(1, 2, 4), dtype)
    assert not codes.float().any()
    assert not scales.any()


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float, dtype: torch.dtype) -> None:
    x = torch.ones(2, 1, 4)
    x[1, 0, 2] = bad
    codes, scales = round_heads(x, dtype)
    back = codes.float() * scales[..., None]
    assert back[0].isfinite().all()
    assert not back[1].isfinite().any()


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_layers_share_the_memory_of_all_and_are_cleared_together(dtype: torch.dtype) -> None:
    whole = KvCache(torch.ones(3, 2, 4, 2, 1, 8).to(dtype), torch.ones(3, 2, 4, 2, 1))
    layers = list(whole.layers())
    assert [layer.block_size for layer in (whole, *layers)] == [2] * 4
    whole.clear(torch.tensor([1, 3]))
    for layer in layers:
        assert layer.scales is not None
        assert layer.data.float().sum(dim=(0, 2, 3, 4)).tolist() == [32, 0, 32, 0]
        assert layer.scales.sum(dim=(0, 2, 3)).tolist() == [4.0, 0.0, 4.0, 0.0]
    assert whole.dtype == torch.float32
    assert KvCache(torch.ones(1, 2, 4, 2, 1, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
