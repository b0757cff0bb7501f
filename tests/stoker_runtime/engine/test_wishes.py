"""What a batch asks, read once."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.engine.wishes import build_wishes
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence

CPU = torch.device("cpu")


def make_sequence(seed: int = 0, **params: object) -> Sequence:
    fields = {"max_tokens": 9, "temperature": 0.0, **params}
    return Sequence("a", (1,), SamplingParams(**fields), frozenset({7}), seed)  # type: ignore[arg-type]


def test_nothing_asked_is_nothing_built() -> None:
    wishes = build_wishes([make_sequence(), make_sequence()], 40, CPU)
    assert wishes.bias is wishes.bans is None
    assert wishes.penalised == wishes.logprobs == wishes.draws == ()


def test_entries_name_their_rows() -> None:
    seqs = [make_sequence(), make_sequence(logit_bias={3: 1.5, 9: -1.0}), make_sequence()]
    bias = build_wishes(seqs, 40, CPU).bias
    assert bias is not None
    assert (bias.rows.tolist(), bias.ids.tolist()) == ([1, 1], [3, 9])
    assert bias.values.tolist() == [1.5, -1.0]


def test_bans_are_all_ends_within_the_vocabulary() -> None:
    seqs = [make_sequence(), make_sequence(min_tokens=4, stop_token_ids=(2, 90))]
    bans = build_wishes(seqs, 40, CPU).bans
    assert bans is not None
    assert sorted(bans.ids.tolist()) == [2, 7]
    assert set(bans.values.tolist()) == {4.0}


def test_rows_that_draw_have_columns() -> None:
    params: list[dict[str, object]] = [
        {"temperature": 0.5, "top_k": 3},
        {},
        {"temperature": 2.0, "min_p": 0.1, "top_p": 0.5},
    ]
    (draws,) = build_wishes([make_sequence(**one) for one in params], 40, CPU).draws
    assert draws.rows.tolist() == [0, 2]
    assert draws.temperatures.tolist() == [[0.5], [2.0]]
    assert draws.top_k is not None
    assert draws.top_p is not None
    assert draws.min_p is not None
    assert draws.top_k.tolist() == [[3], [math.inf]]
    assert draws.top_p.tolist() == [[1.0], [0.5]]
    assert draws.min_p[:, 0].tolist() == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1, 2**64 + 5, -3])
def test_any_seed_fits(seed: int) -> None:
    (draws,) = build_wishes([make_sequence(seed, temperature=1.0)], 40, CPU).draws
    assert draws.seeds.item() % 2**64 == seed % 2**64


def test_large_batches_are_drawn_in_pieces() -> None:
    seqs = [make_sequence(temperature=float(i % 3)) for i in range(30)]
    draws = build_wishes(seqs, 100_000, CPU).draws
    assert [len(one.rows) for one in draws] == [5, 5, 5, 5]
    assert [row for one in draws for row in one.rows.tolist()] == [i for i in range(30) if i % 3]
