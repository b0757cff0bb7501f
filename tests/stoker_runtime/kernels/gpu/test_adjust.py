"""Scores are adjusted as their twin in torch does it, and what is drawn is counted."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.kernels.gpu.adjust import (
    IN_PROMPT,
    IS_END,
    SAID,
    Marks,
    Terms,
    adjust,
    count,
)
from support import twins


def make_marks(num_slots: int, vocab: int, *, has_bias: bool) -> Marks:
    tokens = torch.randint(0, 12, (num_slots, vocab), dtype=torch.int32)
    bias = torch.randn(num_slots, vocab) if has_bias else None
    return Marks(tokens, bias)


def make_terms(slots: list[int], **fields: list[float]) -> Terms:
    def column(name: str, default: float) -> torch.Tensor:
        return torch.tensor(fields.get(name, [default] * len(slots)))

    return Terms(
        torch.tensor(slots, dtype=torch.int32),
        column("repetitions", 1.0),
        column("frequencies", 0.0),
        column("presences", 0.0),
        column("leasts", 0).long(),
    )


@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("vocab", [5, 1024, 2051])
def test_scores_equal_torchs(vocab: int, has_bias: bool) -> None:
    torch.manual_seed(vocab)
    logits, marks = (
        torch.randn(4, vocab) * 4,
        make_marks(3, vocab, has_bias=has_bias),
    )
    terms = make_terms(
        [2, -1, 0, 1],
        repetitions=[1.3, 9.0, 0.7, 1.0],
        frequencies=[0.5, 9.0, 0.0, -0.25],
        presences=[1.0, 9.0, -2.0, 0.0],
        leasts=[4, 9, 4, 0],
    )
    lengths = torch.tensor([2, 0, 3, 0])
    made = adjust(logits, marks, terms, lengths)
    torch.testing.assert_close(made, twins.adjust(logits, marks, terms, lengths))
    assert torch.equal(made[1], logits[1])


def test_each_mark_does_what_it_stands_for() -> None:
    tokens = torch.tensor([[0, IN_PROMPT, 3 * SAID, IS_END, IS_END + SAID]], dtype=torch.int32)
    terms = make_terms([0], repetitions=[2.0], frequencies=[0.5], presences=[1.0], leasts=[2])
    logits = torch.tensor([[4.0, 4.0, -4.0, 4.0, 4.0]])
    for length, ends in ((0, [-math.inf, -math.inf]), (1, [4.0, 0.5])):
        lengths = torch.tensor([length])
        made = adjust(logits, Marks(tokens, None), terms, lengths)
        assert made.tolist() == [[4.0, 2.0, -10.5, *ends]]


def test_what_was_drawn_is_counted_once_where_it_belongs() -> None:
    torch.manual_seed(0)
    made, vocab = make_marks(4, 37, has_bias=False), 37
    expected = Marks(made.tokens.clone(), None)
    slots = torch.tensor([3, -1, 0, 2], dtype=torch.int32)
    drawn = torch.tensor([vocab - 1, 5, -1, 7])
    count(made, slots, drawn)
    twins.count(expected, slots, drawn)
    assert torch.equal(made.tokens, expected.tokens)
    assert int(made.tokens.sum() - 2 * SAID) == int(make_total(4, 37))


def make_total(num_slots: int, vocab: int) -> torch.Tensor:
    torch.manual_seed(0)
    return make_marks(num_slots, vocab, has_bias=False).tokens.sum()
