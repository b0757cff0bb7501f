"""A sampler that draws by the kernel does what sequences ask, as one that draws by torch does."""

from __future__ import annotations

import math

import pytest
import torch

from stoker_runtime.engine.sampler import Drawn, Sampler
from stoker_runtime.engine.wishes import Wishes
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from support.draws import draw
from support.gpu import DEVICE

VOCAB = 40


def make_sequence(seed: int = 0, made: tuple[int, ...] = (), **params: object) -> Sequence:
    fields = {"max_tokens": 100, **params}
    seq = Sequence(f"s{seed}", (1, 2), SamplingParams(**fields), frozenset({7}), seed)  # type: ignore[arg-type]
    seq.output_ids.extend(made)
    return seq


def make_logits(rows: int) -> torch.Tensor:
    torch.manual_seed(rows)
    return torch.randn(rows, VOCAB, device=DEVICE) * 3


def test_greedy_rows_and_log_probabilities_equal_torchs() -> None:
    seqs = [
        make_sequence(0, temperature=0.0, logprobs=2),
        make_sequence(1, (4, 4, 5), temperature=0.0, presence_penalty=1.5, repetition_penalty=1.3),
        make_sequence(2, temperature=0.0, logit_bias={9: 50.0}, logprobs=0),
        make_sequence(3, temperature=0.0, min_tokens=3, logit_bias={7: 90.0}),
        make_sequence(4, temperature=5.0, top_k=1),
    ]
    logits = make_logits(len(seqs))
    assert draw(logits, seqs, by_kernel=True) == draw(logits, seqs)


def test_a_draw_depends_on_its_own_seed_and_length_alone() -> None:
    logits = make_logits(1).expand(4, -1)
    sampler = Sampler(logits.device, logits.shape[-1], by_kernel=True)
    seqs = [make_sequence(seed, temperature=2.0) for seed in (5, 6, 7, 8)]
    together = draw(logits, seqs, sampler=sampler)
    alone = [draw(logits[:1], [seq], by_kernel=True)[0] for seq in seqs]
    assert together == alone
    for seq in seqs:
        seq.output_ids.append(3)
    assert draw(logits, seqs, sampler=sampler) != together


def test_nothing_is_prepared_for_torch_where_the_kernel_draws() -> None:
    seqs = [
        make_sequence(0, temperature=1.0, logit_bias={9: 5.0}),
        make_sequence(1, temperature=1.0, presence_penalty=1.0, min_tokens=3, logprobs=2),
    ]
    sampler = Sampler(DEVICE, VOCAB, by_kernel=True)
    assert sampler.prepare(seqs).wishes == Wishes(logprobs=(1,))


@pytest.mark.parametrize("by_kernel", [False, True], ids=["torch", "kernel"])
def test_rows_whose_scores_are_no_numbers_get_no_token(by_kernel: bool) -> None:
    logits = make_logits(4)
    logits[1, 3], logits[2], logits[3, 0] = math.nan, -math.inf, -math.inf
    seqs = [make_sequence(seed) for seed in range(4)]
    drawn = draw(logits, seqs, by_kernel=by_kernel)
    assert [type(one) for one in drawn] == [Drawn, type(None), type(None), Drawn]
    assert draw(logits[1:2], seqs[1:2], by_kernel=by_kernel) == [None]


def test_penalties_follow_what_is_drawn_from_step_to_step() -> None:
    said: dict[bool, list[list[int]]] = {}
    for by_kernel in (False, True):
        sampler = Sampler(DEVICE, VOCAB, by_kernel=by_kernel)
        seqs = [
            make_sequence(0, temperature=0.0, frequency_penalty=0.6),
            make_sequence(1, temperature=0.0),
            make_sequence(2, temperature=0.0, presence_penalty=1.0, repetition_penalty=1.2),
            make_sequence(3, temperature=0.0, min_tokens=4, logit_bias={7: 20.0}),
        ]
        for _ in range(6):
            for seq, drawn in zip(seqs, draw(make_logits(4), seqs, sampler=sampler), strict=True):
                assert drawn is not None
                seq.output_ids.append(drawn.token_id)
        said[by_kernel] = [seq.output_ids for seq in seqs]
        assert sampler.num_remembered == (3 if by_kernel else 2)
        for seq in seqs:
            sampler.forget(seq.id)
        assert sampler.num_remembered == 0
    assert said[True] == said[False]
    assert said[True][3][3:] == [7] * 3
    assert len(set(said[True][0])) > 1


def test_what_failed_steps_drew_does_not_count() -> None:
    logits = make_logits(1)
    sampler = Sampler(logits.device, VOCAB, by_kernel=True)
    seq = make_sequence(temperature=0.0, presence_penalty=50.0)
    (first,) = draw(logits, [seq], sampler=sampler)
    assert draw(logits, [seq], sampler=sampler) != [first]
    sampler.retract()
    assert draw(logits, [seq], sampler=sampler) == [first]
