"""Each function against its formula, written with loops."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.reference import Heads, RmsNorm, Scoring

SCORINGS = [Scoring(8**-0.5), Scoring(0.7), Scoring(0.7, softcap=1.5)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def naive_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_seen: list[int], scoring: Scoring
) -> torch.Tensor:
    """Query i sees the first `num_seen[i]` keys; head h reads key head h // group."""
    group = q.shape[1] // k.shape[1]
    out = torch.zeros_like(q)
    for row, seen in enumerate(num_seen):
        for head in range(q.shape[1]):
            keys, values = k[:seen, head // group], v[:seen, head // group]
            scores = (keys @ q[row, head]) * scoring.scale
            if scoring.softcap:
                scores = scoring.softcap * (scores / scoring.softcap).tanh()
            out[row, head] = scores.softmax(0) @ values
    return out


def test_rms_norm() -> None:
    x, weight = random(3, 8), random(8)
    expected = [row / math.sqrt(float((row**2).mean()) + 1e-5) * weight for row in x]
    made = reference.normalise(x, RmsNorm(weight, 1e-5))
    torch.testing.assert_close(made, torch.stack(expected))


def test_rms_norm_of_large_bfloat16_values_does_not_overflow() -> None:
    x = torch.full((1, 8), 3e30, dtype=torch.bfloat16)
    normed = reference.normalise(x / 1e15, RmsNorm(torch.ones(8, dtype=torch.bfloat16), 1e-5))
    torch.testing.assert_close(normed.float(), torch.ones(1, 8), atol=0.01, rtol=0)


def test_norm_of_heads_has_a_weight_for_each() -> None:
    x, weight = random(5, 3, 8), random(3, 8)
    heads = [reference.normalise(x[:, i], RmsNorm(weight[i], 1e-6)) for i in range(3)]
    made = reference.normalise(x, RmsNorm(weight, 1e-6))
    torch.testing.assert_close(made, torch.stack(heads, dim=1))


def test_norm_with_a_finer_weight_computes_in_its_dtype_and_rounds_once() -> None:
    x, norm = random(5, 8).bfloat16(), RmsNorm(1 + random(8) / 300, 1e-6)
    made = reference.normalise(x, norm)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, reference.normalise(x.float(), norm).bfloat16())


@pytest.mark.parametrize("inner", [RmsNorm(torch.full((8,), 2.0), 1e-5), None], ids=str)
def test_what_is_added_stays_in_x(inner: RmsNorm | None) -> None:
    x, added, norm = random(3, 8), random(3, 8, seed=1), RmsNorm(random(8), 1e-5)
    total = x + (added if inner is None else reference.normalise(added, inner))
    made = reference.add_and_normalise(x, added, inner, norm)
    assert torch.equal(x, total)
    torch.testing.assert_close(made, reference.normalise(total, norm))


@pytest.mark.parametrize("has_norm", [True, False], ids=["normalised", "as they are"])
@pytest.mark.parametrize("turns", [True, False], ids=["turned", "not turned"])
def test_heads_are_normalised_then_turned_and_all_but_queries_stored(
    has_norm: bool, turns: bool
) -> None:
    cache, slots = torch.zeros(2, 3, 4, 2, 6), torch.tensor([7, 2, 8])
    qkv, angle = random(3, (4 + 2 * 2) * 6), random(3, 1, 2)
    norm = RmsNorm(random(6, 6), 1e-5) if has_norm else None
    angles = (angle.cos(), angle.sin()) if turns else None
    q, k, v = qkv.view(3, 8, 6).split([4, 2, 2], dim=1)
    if norm:
        q = reference.normalise(q, RmsNorm(norm.weight[:4], 1e-5))
        k = reference.normalise(k, RmsNorm(norm.weight[4:], 1e-5))
    if angles:
        q, k = reference.rotate(q, *angles), reference.rotate(k, *angles)
    made = reference.turn_and_store(qkv, Heads(4, 2, norm), angles, KvCache(cache), slots)
    torch.testing.assert_close(made, q)
    torch.testing.assert_close(cache[0].view(12, 2, 6)[slots], k)
    torch.testing.assert_close(cache[1].view(12, 2, 6)[slots], v)


def test_rotate_turns_pairs_by_their_angle() -> None:
    x, angle = random(2, 3, 4), random(2, 1, 2)
    out = reference.rotate(x, angle.cos(), angle.sin())
    for token in range(2):
        for head in range(3):
            for i in range(2):
                turned = complex(x[token, head, i], x[token, head, i + 2]) * complex(
                    math.cos(angle[token, 0, i]), math.sin(angle[token, 0, i])
                )
                assert complex(out[token, head, i], out[token, head, i + 2]) == pytest.approx(
                    turned, abs=1e-5
                )


def test_rotate_leaves_what_has_no_angle() -> None:
    x, angle = random(2, 3, 10), random(2, 1, 3)
    out = reference.rotate(x, angle.cos(), angle.sin())
    assert torch.equal(out[..., 6:], x[..., 6:])
    torch.testing.assert_close(out[..., :6], reference.rotate(x[..., :6], angle.cos(), angle.sin()))


def test_silu_and_multiply() -> None:
    x = random(2, 6)
    gate, up = x[:, :3], x[:, 3:]
    expected = gate / (1 + (-gate).exp()) * up
    torch.testing.assert_close(reference.silu_and_multiply(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_kv_comes_back_in_token_order(dtype: torch.dtype) -> None:
    scales = torch.zeros(2, 5, 4, 2) if dtype == torch.int8 else None
    cache = KvCache(torch.zeros(2, 5, 4, 2, 3, dtype=dtype), scales)
    k, v = random(7, 2, 3), random(7, 2, 3, seed=1)
    blocks = [4, 1]
    slots = torch.tensor([blocks[i // 4] * 4 + i % 4 for i in range(7)])
    reference.write_kv(cache, k, v, slots)
    keys, values = reference.read_kv(cache, torch.tensor(blocks), 1)
    atol = {torch.float32: 0.0, torch.bfloat16: 0.02, torch.int8: float(k.abs().max()) / 250}[dtype]
    torch.testing.assert_close(keys[0, :7].float(), k, atol=atol, rtol=0)
    torch.testing.assert_close(values[0, :7].float(), v, atol=2 * atol, rtol=0)
    assert not cache.data[:, [0, 2, 3]].any()


@pytest.mark.parametrize("scoring", SCORINGS, ids=["plain", "scaled", "capped"])
@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_attend_decodes(num_heads: int, num_kv_heads: int, scoring: Scoring) -> None:
    lengths = [5, 1, 9]
    q = random(3, num_heads, 8)
    k, v = random(3, 9, num_kv_heads, 8), random(3, 9, num_kv_heads, 8, seed=1)
    beyond = torch.arange(9) >= torch.tensor(lengths)[:, None]
    mask = torch.zeros(3, 9).masked_fill(beyond, -math.inf)[:, None, None, :]
    out = reference.attend_decodes(q, k, v, mask, scoring)
    for i, length in enumerate(lengths):
        torch.testing.assert_close(
            out[i : i + 1], naive_attention(q[i : i + 1], k[i], v[i], [length], scoring)
        )


@pytest.mark.parametrize(("num_heads", "num_kv_heads"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(("num_past", "num_queries"), [(0, 7), (5, 3), (0, 300), (100, 200)])
def test_attend_chunk(num_heads: int, num_kv_heads: int, num_past: int, num_queries: int) -> None:
    scoring = SCORINGS[num_heads % 3]
    num_keys = num_past + num_queries
    q = random(num_queries, num_heads, 8)
    k, v = random(num_keys, num_kv_heads, 8), random(num_keys, num_kv_heads, 8, seed=1)
    positions = torch.arange(num_keys)
    future = positions > positions[num_past:, None]
    mask = torch.zeros(num_queries, num_keys).masked_fill(future, -math.inf)
    expected = naive_attention(q, k, v, [num_past + i + 1 for i in range(num_queries)], scoring)
    torch.testing.assert_close(reference.attend_chunk(q, k, v, mask, scoring), expected)
