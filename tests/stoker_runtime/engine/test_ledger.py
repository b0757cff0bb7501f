"""Marks follow sequences from their first draw to their end."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.engine.ledger import Ledger, asks
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from support.gpu import DEVICE

VOCAB = 12
LENGTHS = torch.zeros(1, dtype=torch.int64, device=DEVICE)


def make_sequence(id: str, made: tuple[int, ...] = (), **fields: object) -> Sequence:
    params = SamplingParams(max_tokens=9, **fields)  # type: ignore[arg-type]
    return Sequence(id, (0, 1, 1), params, frozenset({7, 99}), output_ids=list(made))


def adjust(ledger: Ledger, seq: Sequence) -> list[float]:
    adjustment = ledger.enter([seq])
    assert adjustment is not None
    logits = torch.full((1, VOCAB), 4.0, device=DEVICE)
    rows: list[list[float]] = adjustment.adjust(logits, LENGTHS).tolist()
    return rows[0]


def test_who_asks_for_nothing_has_no_slot() -> None:
    ledger = Ledger(DEVICE, VOCAB)
    assert ledger.enter([make_sequence("a")]) is None
    assert len(ledger) == 0
    for field, value in (("min_tokens", 1), ("logit_bias", {3: 1.0}), ("presence_penalty", 0.1)):
        assert asks(SamplingParams(max_tokens=9, **{field: value}))  # type: ignore[arg-type]


def test_newcomers_bring_what_they_have_said() -> None:
    seq = make_sequence("a", (5, 5, 1), repetition_penalty=2.0, frequency_penalty=0.5)
    assert adjust(Ledger(DEVICE, VOCAB), seq) == [2, 1.5, 4, 4, 4, 1, 4, 4, 4, 4, 4, 4]


def test_what_is_drawn_is_counted_without_the_host() -> None:
    ledger, seq = Ledger(DEVICE, VOCAB), make_sequence("a", frequency_penalty=1.0)
    for told in range(3):
        assert adjust(ledger, seq)[5] == 4 - told
        adjustment = ledger.enter([make_sequence("b"), seq])
        assert adjustment is not None
        adjustment.count(torch.tensor([5, 5], device=DEVICE))


def test_a_slot_is_empty_for_who_comes_next() -> None:
    ledger = Ledger(DEVICE, VOCAB)
    assert adjust(ledger, make_sequence("a", logit_bias={2: 3.0}, min_tokens=2))[2] == 7
    ledger.forget("a")
    ledger.forget("nobody")
    assert adjust(ledger, make_sequence("b", (4,), presence_penalty=1.0))[2:5] == [4, 4, 3]
    assert len(ledger) == 1


@pytest.mark.parametrize("num_seqs", [9, 20])
def test_room_grows_and_keeps_what_is_there(num_seqs: int) -> None:
    ledger = Ledger(DEVICE, VOCAB)
    seqs = [make_sequence(f"s{n}", (n % VOCAB,), presence_penalty=1.0) for n in range(num_seqs)]
    seqs[3].params.logit_bias[2] = 1.0
    for end in range(1, num_seqs + 1):
        ledger.enter(seqs[:end])
    for n, seq in enumerate(seqs):
        expected = [4.0 - (token == n % VOCAB) + (n == 3) * (token == 2) for token in range(VOCAB)]
        assert adjust(ledger, seq) == expected
