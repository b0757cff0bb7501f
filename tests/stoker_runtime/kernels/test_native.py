"""Attention of the native library equals that of torch over the same paged cache."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.native import Library, find_library
from stoker_runtime.kernels.reference import Scoring, write_kv
from stoker_runtime.schedule.step import Chunk

pytestmark = pytest.mark.skipif(find_library() is None, reason="the library is not built")
SPANS = ((0, 1), (0, 19), (17, 18), (40, 75), (99, 100), (3, 5))
"""First and last + 1 position of each sequence's tokens in the step; the rest is in the cache."""


def make_runner(
    block_size: int, kv_heads: int, dim: int, window: int, dtype: torch.dtype
) -> Runner:
    spec = SimpleNamespace(num_layers=1, num_kv_heads=kv_heads, head_dim=dim, windows=(window,))
    model = SimpleNamespace(
        ops=reference, spec=spec, dtype=torch.float32, device=torch.device("cpu")
    )
    return Runner(model, 200, block_size, dtype)  # type: ignore[arg-type]


def make_chunks(block_size: int) -> list[Chunk]:
    order = torch.randperm(200).tolist()
    chunks = []
    for index, (start, end) in enumerate(SPANS):
        table, order = order[: -(-end // block_size)], order[-(-end // block_size) :]
        chunks.append(Chunk(str(index), start, (0,) * (end - start), tuple(table), samples=True))
    return chunks


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8], ids=str)
@pytest.mark.parametrize("block_size", [4, 16, 24])
@pytest.mark.parametrize("heads", [(4, 4, 16), (9, 3, 64), (8, 1, 48)], ids=str)
@pytest.mark.parametrize(
    "scoring",
    [Scoring(0.2), Scoring(0.5, softcap=3.0), Scoring(0.2, window=7), Scoring(1.0, window=1)],
    ids=["plain", "soft cap", "window", "window of itself"],
)
def test_native_attention_equals_torchs(
    dtype: torch.dtype, block_size: int, heads: tuple[int, int, int], scoring: Scoring
) -> None:
    num_heads, kv_heads, dim = heads
    torch.manual_seed(block_size)
    runner = make_runner(block_size, kv_heads, dim, scoring.window, dtype)
    chunks, cache = make_chunks(block_size), next(runner.caches.layers())
    everywhere = torch.arange(cache.data.shape[1] * block_size)
    write_kv(cache, *torch.randn(2, len(everywhere), kv_heads, dim), everywhere)
    num_tokens = sum(end - start for start, end in SPANS)
    qkv = torch.randn(num_tokens, num_heads + 2 * kv_heads, dim)
    q, k, v = qkv.split([num_heads, kv_heads, kv_heads], dim=1)
    library = find_library()
    assert library is not None
    plans = (runner.padding.plan(chunks), runner._plan_tiles(chunks, library))
    write_kv(cache, k, v, plans[0].slots)
    expected, made = (plan.attend(q, cache, scoring) for plan in plans)
    torch.testing.assert_close(made, expected, atol=2e-6, rtol=2e-5)


def test_caches_that_it_cannot_read_are_left_to_torch() -> None:
    assert Library.attends(KvCache(torch.zeros(2, 1, 64)))
    assert Library.attends(KvCache(torch.zeros(2, 1, 64, dtype=torch.int8), torch.zeros(2, 1)))
    assert not Library.attends(KvCache(torch.zeros(2, 1, 8)))
    assert not Library.attends(KvCache(torch.zeros(2, 1, 512)))
    assert not Library.attends(KvCache(torch.zeros(2, 1, 64, dtype=torch.bfloat16)))
