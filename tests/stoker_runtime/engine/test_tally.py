"""What penalties count, step by step."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.engine.tally import Tally, has_penalty
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence


def make_sequence(id: str, prompt: tuple[int, ...], made: list[int], **params: float) -> Sequence:
    fields = SamplingParams(max_tokens=9, **params)  # type: ignore[arg-type]
    return Sequence(id, prompt, fields, output_ids=made)


def penalise(
    tally: Tally, logits: torch.Tensor, rows: list[int], seqs: list[Sequence], newest: int = 0
) -> None:
    fed = torch.full((len(logits),), newest)
    tally.count(rows, seqs, logits.device).apply(logits, fed)


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
    penalise(Tally(), logits, [0, 2], seqs)
    assert logits.tolist() == [[2, -8, 1, 1], [4, -4, 1, 2], [4, -4, -0.5, 0]]


def test_counts_go_on_from_step_to_step() -> None:
    tally = Tally()
    seq = make_sequence("a", (5,), [], frequency_penalty=1.0)
    for made in range(4):
        logits = torch.zeros(1, 8)
        penalise(tally, logits, [0], [seq])
        assert logits[0].tolist() == [0, 0, -((made + 1) // 2), 0, 0, -(made // 2), 0, 0]
        seq.output_ids.append(5 if made % 2 else 2)


def test_the_ended_are_forgotten() -> None:
    tally = Tally()
    seq = make_sequence("a", (5,), [5], presence_penalty=1.0)
    penalise(tally, torch.zeros(1, 8), [0], [seq])
    tally.forget("a")
    tally.forget("nobody")
    assert len(tally) == 0
    logits = torch.zeros(1, 8)
    penalise(tally, logits, [0], [make_sequence("a", (1,), [], presence_penalty=1.0)])
    assert not logits.any()


TOKENS = st.lists(st.integers(0, 5), min_size=1, max_size=6)
PENALTIES = st.fixed_dictionaries(
    {
        "repetition_penalty": st.sampled_from([1.0, 0.5, 2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.5, -1.0]),
        "presence_penalty": st.sampled_from([0.25, -0.5]),
    }
)


@given(rows=st.lists(st.tuples(TOKENS, TOKENS, st.booleans(), PENALTIES), min_size=1, max_size=4))
def test_a_token_that_is_being_drawn_counts_once_it_is_there(
    rows: list[tuple[list[int], list[int], bool, dict[str, float]]],
) -> None:
    """Whether the newest token is known or still on the device makes no difference."""
    known = [
        make_sequence(str(i), tuple(prompt), made, **penalties)
        for i, (prompt, made, _, penalties) in enumerate(rows)
    ]
    newest = torch.tensor([made[-1] for _, made, *_ in rows])
    scores = torch.linspace(-2, 2, 8).repeat(len(rows), 1)
    expected, places = scores.clone(), list(range(len(rows)))
    Tally().count(places, known, scores.device).apply(expected, newest)
    for seq, (*_, is_behind, _) in zip(known, rows, strict=True):
        if is_behind:
            seq.output_ids, seq.num_awaited = seq.output_ids[:-1], 1
    Tally().count(places, known, scores.device).apply(scores, newest)
    assert torch.equal(scores, expected)
