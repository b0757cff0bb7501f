"""Each function against its formula, written with loops."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.reference import Scoring

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
    torch.testing.assert_close(reference.rms_norm(x, weight, 1e-5), torch.stack(expected))


def test_rms_norm_of_large_bfloat16_values_does_not_overflow() -> None:
    x = torch.full((1, 8), 3e30, dtype=torch.bfloat16)
    normed = reference.rms_norm(x / 1e15, torch.ones(8, dtype=torch.bfloat16), 1e-5)
    torch.testing.assert_close(normed.float(), torch.ones(1, 8), atol=0.01, rtol=0)


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


def test_kv_comes_back_in_token_order() -> None:
    cache = torch.zeros(2, 5, 4, 2, 3)
    k, v = random(7, 2, 3), random(7, 2, 3, seed=1)
    blocks = [4, 1]
    slots = torch.tensor([blocks[i // 4] * 4 + i % 4 for i in range(7)])
    reference.write_kv(cache, k, v, slots)
    keys, values = reference.read_kv(cache, torch.tensor(blocks), 1)
    assert torch.equal(keys[0, :7], k)
    assert torch.equal(values[0, :7], v)
    assert not cache[:, [0, 2, 3]].any()


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
