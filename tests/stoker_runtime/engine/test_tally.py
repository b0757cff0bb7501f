"""What penalties count, step by step."""

from __future__ import annotations

import torch

from stoker_runtime.engine.tally import Tally, has_penalty
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence


def make_sequence(id: str, prompt: tuple[int, ...], made: list[int], **params: float) -> Sequence:
    fields = SamplingParams(max_tokens=9, **params)  # type: ignore[arg-type]
    return Sequence(id, prompt, fields, output_ids=made)


def test_each_penalty_alone_is_one() -> None:
    assert not has_penalty(SamplingParams(max_tokens=1))
    for field in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
        assert has_penalty(SamplingParams(max_tokens=1, **{field: 0.5}))  # type: ignore[arg-type]


def test_penalises_rows_apart() -> None:
    logits = torch.tensor([[4.0, -4.0, 1.0, 2.0]]).repeat(3, 1)
    seqs = [
        make_sequence("a", (0, 1), [3, 3], repetition_penalty=2.0),
        make_sequence("b", (0,), [3, 3, 2], frequency_penalty=0.5, presence_penalty=1.0),
    ]
    Tally().penalise(logits, [0, 2], seqs)
    assert logits.tolist() == [[2, -8, 1, 1], [4, -4, 1, 2], [4, -4, -0.5, 0]]


def test_counts_go_on_from_step_to_step() -> None:
    tally = Tally()
    seq = make_sequence("a", (5,), [], frequency_penalty=1.0)
    for made in range(4):
        logits = torch.zeros(1, 8)
        tally.penalise(logits, [0], [seq])
        assert logits[0].tolist() == [0, 0, -((made + 1) // 2), 0, 0, -(made // 2), 0, 0]
        seq.output_ids.append(5 if made % 2 else 2)


def test_the_ended_are_forgotten() -> None:
    tally = Tally()
    tally.penalise(torch.zeros(1, 8), [0], [make_sequence("a", (5,), [5], presence_penalty=1.0)])
    tally.forget("a")
    tally.forget("nobody")
    assert len(tally) == 0
    logits = torch.zeros(1, 8)
    tally.penalise(logits, [0], [make_sequence("a", (1,), [], presence_penalty=1.0)])
    assert not logits.any()
