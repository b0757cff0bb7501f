"""Tokens that the kernel draws have the probabilities that the formula gives them."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.engine.chance import uniform
from stoker_runtime.kernels.gpu.sampling import LOST, Asked, draw

STEP, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def make_asked(num_rows: int, **fields: float) -> Asked:
    def column(name: str, default: float, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((num_rows,), fields.get(name, default), dtype=dtype)

    return Asked(
        seeds=torch.arange(num_rows) * 7919 - 3,
        temperatures=column("temperature", 1.0, torch.float32),
        top_ks=column("top_k", 0, torch.int32),
        top_ps=column("top_p", 1.0, torch.float32),
        min_ps=column("min_p", 0.0, torch.float32),
    )


def draw_all(logits: torch.Tensor, **fields: float) -> torch.Tensor:
    """Of answers of 0, 1, 2, 3, 4, 0, … tokens."""
    return draw(logits, torch.arange(len(logits)) % 5, make_asked(len(logits), **fields))


def mix(value: int) -> int:
    """SplitMix64 in plain words."""
    value = (value + STEP) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def draw_plainly(scores: list[float], seed: int, length: int) -> int:
    """The twin: Gumbel's noise added to each score, one token at a time."""
    key = mix(mix(seed & MASK) ^ length)
    assert key >> 12 == round(uniform(seed, length) * 2**52), "the CPU's sampler begins the same"
    noisy = [
        score - math.log(-math.log(((mix((key + token * STEP) & MASK) >> 40) + 0.5) / 2**24))
        for token, score in enumerate(scores)
    ]
    return noisy.index(max(noisy))


def keep(scores: torch.Tensor, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> set[int]:
    """Tokens that may be drawn, by sorting."""
    probs, ids = scores.double().softmax(-1).sort(descending=True)
    count = top_k or len(ids)
    before = probs[:count].cumsum(0) - probs[:count]
    inside = (before < top_p * probs[:count].sum()) | (top_p == 1.0)
    return set(ids[:count][inside & (probs[:count] >= min_p * probs[0])].tolist())


@pytest.mark.parametrize("vocab", [3, 1000, 1025])
def test_without_temperature_the_likeliest_is_taken(vocab: int) -> None:
    torch.manual_seed(vocab)
    logits = torch.randn(5, vocab).round(decimals=1)
    tokens = draw_all(logits, temperature=0.0)
    assert tokens.tolist() == [row.index(max(row)) for row in logits.tolist()]


def test_draws_are_those_of_the_twin() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 1100) * 3
    expected = [
        draw_plainly([(score - max(row)) / 0.7 for score in row], seed, number % 5)
        for number, (row, seed) in enumerate(
            zip(logits.tolist(), make_asked(6).seeds.tolist(), strict=True)
        )
    ]
    assert draw_all(logits, temperature=0.7).tolist() == expected


@pytest.mark.parametrize(
    "wish",
    [{"top_k": 5}, {"top_k": 5000}, {"top_p": 0.6}, {"min_p": 0.3}, {"top_p": 1e-9},
     {"top_k": 8, "top_p": 0.7}, {"top_k": 20, "top_p": 0.9, "min_p": 0.2}],
    ids=str,
)  # fmt: skip
def test_only_kept_tokens_are_drawn_and_all_of_them(wish: dict[str, float]) -> None:
    torch.manual_seed(3)
    scores = torch.randn(500) * 2
    scores[::7] += 3
    allowed = keep(scores.cpu(), **wish)  # type: ignore[arg-type]
    drawn = set(draw_all(scores.expand(6, -1), **wish).tolist())
    assert drawn <= allowed
    assert len(drawn) >= min(len(allowed), 3) - 1


def test_probabilities_are_those_of_the_softmax() -> None:
    rows, probs = 120, [0.5, 0.3, 0.15, 0.05]
    logits = torch.tensor(probs).log().expand(rows, -1)
    counts = torch.bincount(draw_all(logits), minlength=4).tolist()
    for count, prob in zip(counts, probs, strict=True):
        spread = math.sqrt(rows * prob * (1 - prob))
        assert abs(count - rows * prob) < 4 * spread


def test_scores_that_are_no_numbers_lose_the_row_alone() -> None:
    logits = torch.zeros(4, 1030)
    logits[0, 1029], logits[1], logits[2, 3] = math.nan, -math.inf, math.inf
    logits[3, 5:] = -math.inf
    tokens = draw_all(logits).tolist()
    assert tokens[:3] == [LOST] * 3
    assert 0 <= tokens[3] < 5
