"""Cuts and draws against sorting and summing one by one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_runtime.engine.truncation import draw_at, find_largest, keep_largest


def make_probs(rows: int, vocab: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, vocab, generator=generator) * spread).softmax(-1)


def kept(probs: torch.Tensor) -> list[set[int]]:
    return [set(row.nonzero()[:, 0].tolist()) for row in probs]


@pytest.mark.parametrize("vocab", [1, 3, 63, 64, 65, 5000])
@pytest.mark.parametrize("spread", [0.01, 3.0, 30.0])
def test_keeps_the_k_largest(vocab: int, spread: float) -> None:
    probs = make_probs(4, vocab, spread=spread)
    amounts = torch.tensor([[1.0], [2.0], [50.0], [math.inf]])
    result = keep_largest(probs, amounts, by_count=True)
    for row, amount in enumerate((1, 2, 50, vocab)):
        expected = set(probs[row].topk(min(amount, vocab)).indices.tolist())
        assert expected >= kept(result)[row] - set(_near(probs[row], amount))
        assert torch.equal(result[row][list(expected)], probs[row][list(expected)])


def _near(row: torch.Tensor, amount: int) -> list[int]:
    """Tokens that count as equal to the last one kept."""
    last = row.sort(descending=True).values[min(amount, len(row)) - 1]
    return ((row / last - 1).abs() < 2**-17).nonzero()[:, 0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("vocab", [3, 64, 5000])
@pytest.mark.parametrize("spread", [0.01, 3.0, 30.0])
@pytest.mark.parametrize("mass", [0.001, 0.5, 0.95, 0.9999])
def test_keeps_the_fewest_that_hold_the_mass(vocab: int, spread: float, mass: float) -> None:
    probs = make_probs(1, vocab, spread=spread)
    (ids,) = kept(keep_largest(probs, torch.tensor([[mass]]), by_count=False))
    values = probs[0].double().sort(descending=True).values.cumsum(0)
    least = int((values < mass - 1e-5).sum()) + 1
    most = int((values < mass + 1e-5).sum()) + 1
    assert least <= len(ids) <= most + len(_near(probs[0], most))
    assert min(probs[0][list(ids)]) >= probs[0].sort(descending=True).values[len(ids) - 1] * 0.999


def test_equals_stay_together() -> None:
    probs = torch.tensor([[0.1, 0.3, 0.3, 0.2, 0.1]])
    assert kept(keep_largest(probs, torch.tensor([[1.0]]), by_count=True)) == [{1, 2}]
    assert kept(keep_largest(probs, torch.tensor([[0.7]]), by_count=False)) == [{1, 2, 3}]


@settings(max_examples=60, deadline=None)
@given(
    vocab=st.integers(1, 200),
    seed=st.integers(0, 99),
    numbers=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
)
def test_draws_where_the_sum_passes_the_number(vocab: int, seed: int, numbers: list[float]) -> None:
    probs = make_probs(len(numbers), vocab, seed)
    probs = probs * (probs >= probs.mean(-1, keepdim=True) * 0.9)
    drawn = draw_at(probs, torch.tensor(numbers, dtype=torch.float64)).tolist()
    for row, number, token in zip(probs.double(), numbers, drawn, strict=True):
        sums = row.cumsum(0) / row.sum()
        assert row[token] > 0
        assert sums[token] > number - 1e-9
        assert token == 0 or sums[token - 1] <= number + 1e-9


def test_the_ends_of_the_range_draw_what_is_there() -> None:
    probs = torch.zeros(2, 130)
    probs[:, 70], probs[:, 100] = 0.25, 0.75
    numbers = torch.tensor([0.0, 1 - 2**-52], dtype=torch.float64)
    assert draw_at(probs, numbers).tolist() == [70, 100]
    assert draw_at(torch.zeros(1, 70), numbers[:1]).tolist() == [0]


@pytest.mark.parametrize("vocab", [1, 64, 100, 4096])
def test_finds_the_first_of_the_largest(vocab: int) -> None:
    scores = torch.randint(-9, 9, (8, vocab), generator=torch.Generator().manual_seed(0)).float()
    scores[0] = -math.inf
    expected = [min(i for i, x in enumerate(row) if x == max(row)) for row in scores.tolist()]
    assert find_largest(scores).tolist() == expected
