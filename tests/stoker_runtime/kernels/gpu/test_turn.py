"""The kernel between the first product and attention equals its twin in torch, cache included."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import LIMITS, KvCache
from stoker_runtime.kernels.gpu.turn import turn_and_store
from stoker_runtime.kernels.reference import Angles, Heads, RmsNorm
from support.gpu import CODES, DTYPES, EXACT, assert_close

SLOTS = [37, 2, 16, 0, 63]


def make_qkv(heads: Heads, dim: int, dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(dim)
    num_heads = heads.num_heads + 2 * heads.num_kv_heads
    return (torch.randn(len(SLOTS), num_heads * dim) * 2).to(dtype)


def make_angles(half: int, dtype: torch.dtype) -> Angles:
    angles = torch.rand(len(SLOTS), 1, half) * 6
    return angles.cos().to(dtype), angles.sin().to(dtype)


def make_norm(heads: Heads, dim: int) -> RmsNorm:
    return RmsNorm(torch.randn(heads.num_heads + heads.num_kv_heads, dim), 1e-6)


def make_cache(heads: Heads, dim: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(2, 4, 16, heads.num_kv_heads, dim, dtype=dtype)


@pytest.mark.parametrize("has_norm", [False, True], ids=["", "normed"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("num_heads", "dim", "half"),
    [((4, 2), 64, 32), ((9, 3), 80, 40), ((6, 1), 96, 24), ((2, 2), 256, 128), ((3, 1), 16, 0)],
    ids=str,
)
def test_queries_and_cache_equal_torchs(
    num_heads: tuple[int, int], dim: int, half: int, dtype: torch.dtype, has_norm: bool
) -> None:
    heads = Heads(*num_heads)
    if has_norm:
        heads = Heads(*num_heads, make_norm(heads, dim))
    qkv, slots = make_qkv(heads, dim, dtype), torch.tensor(SLOTS)
    angles = make_angles(half, dtype) if half else None
    made, expected = make_cache(heads, dim, dtype), make_cache(heads, dim, dtype)
    q = turn_and_store(qkv, heads, angles, KvCache(made), slots.int())
    assert_close(q, reference.turn_and_store(qkv, heads, angles, KvCache(expected), slots))
    assert_close(made, expected)


def test_tokens_without_a_slot_are_not_stored() -> None:
    heads = Heads(2, 1)
    cache = make_cache(heads, 64, EXACT)
    slots = torch.tensor([-1, 5, -1, 6, -1], dtype=torch.int32)
    turn_and_store(make_qkv(heads, 64, EXACT), heads, None, KvCache(cache), slots)
    written = cache.view(2, 64, -1).abs().sum(-1).nonzero()
    assert written.tolist() == [[0, 5], [0, 6], [1, 5], [1, 6]]


@pytest.mark.parametrize("dtype", CODES, ids=str)
def test_eight_bits_are_rounded_by_the_largest_of_each_head(dtype: torch.dtype) -> None:
    heads, dim = Heads(4, 2), 80
    qkv, slots = make_qkv(heads, dim, EXACT), torch.tensor(SLOTS)
    exact, codes = make_cache(heads, dim, EXACT), make_cache(heads, dim, dtype)
    scales = torch.zeros(codes.shape[:-1])
    angles = make_angles(40, EXACT)
    turn_and_store(qkv, heads, angles, KvCache(codes, scales), slots.int())
    reference.turn_and_store(qkv, heads, angles, KvCache(exact), slots)
    largest = exact.abs().amax(-1)
    assert_close(scales.flatten(1, 2)[:, slots], largest.flatten(1, 2)[:, slots] / LIMITS[dtype])
    steps = scales[..., None].clamp_min(1e-9)
    expected = exact / steps
    expected = expected.to(dtype).float() if dtype.is_floating_point else expected.round()
    assert_close(codes.float() * steps, expected * steps)
