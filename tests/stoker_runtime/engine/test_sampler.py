"""Sampling against formulas written down naively, one token at a time."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.engine.chance import uniform
from stoker_runtime.engine.sampler import Drawn
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from support.draws import draw

VOCAB = 40
_numbers = itertools.count()


def draw_tokens(logits: torch.Tensor, seqs: list[Sequence]) -> list[Drawn]:
    """The draw of a sampler that remembers nothing."""
    drawn = draw(logits, seqs)
    return [one for one in drawn if one is not None]


def make_sequence(
    prompt: tuple[int, ...] = (1, 2), made: tuple[int, ...] = (), seed: int = 0, **params: object
) -> Sequence:
    fields = {"max_tokens": 100, **params}
    seq = Sequence(f"s{next(_numbers)}", prompt, SamplingParams(**fields), frozenset({7}), seed)  # type: ignore[arg-type]
    seq.output_ids.extend(made)
    return seq


def make_logits(rows: int, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 3


def naive_probabilities(logits: list[float], seq: Sequence) -> list[float]:
    """The distribution a token is drawn from, by the book."""
    params = seq.params
    scores = [value + params.logit_bias.get(id, 0.0) for id, value in enumerate(logits)]
    made = Counter(seq.output_ids)
    for id in {*seq.prompt_ids, *made}:
        factor = params.repetition_penalty
        scores[id] = scores[id] / factor if scores[id] > 0 else scores[id] * factor
    for id, count in made.items():
        scores[id] -= params.frequency_penalty * count + params.presence_penalty
    if len(seq.output_ids) + 1 < params.min_tokens:
        scores = [-math.inf if id in seq.stop_ids else value for id, value in enumerate(scores)]
    probs = naive_softmax([value / params.temperature for value in scores])
    order = sorted(range(len(probs)), key=lambda id: -probs[id])
    kept = set(order[: params.top_k] if params.top_k else order)
    probs = normalise([p if id in kept else 0.0 for id, p in enumerate(probs)])
    mass = 0.0
    for id in order:
        probs[id], mass = (probs[id] if mass < params.top_p else 0.0), mass + probs[id]
    probs = [p if p >= params.min_p * max(probs) else 0.0 for p in probs]
    return normalise(probs)


def naive_softmax(values: list[float]) -> list[float]:
    return normalise([math.exp(value - max(values)) for value in values])


def normalise(probs: list[float]) -> list[float]:
    return [p / sum(probs) for p in probs]


def naive_draw(probs: list[float], number: float) -> tuple[int, float]:
    """The token, and how close the number was to another token's."""
    total = 0.0
    edges = []
    for p in probs:
        total += p
        edges.append(total)
    token = next(id for id, edge in enumerate(edges) if edge > number)
    return token, min(abs(edge - number) for edge in edges)


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.2, 2.0),
        "top_k": st.integers(0, VOCAB + 5),
        "top_p": st.floats(0.05, 1.0),
        "min_p": st.floats(0.0, 0.5),
        "presence_penalty": st.floats(-2.0, 2.0),
        "frequency_penalty": st.floats(-2.0, 2.0),
        "repetition_penalty": st.floats(0.5, 2.0),
        "logit_bias": st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-5.0, 5.0), max_size=3),
        "min_tokens": st.integers(0, 4),
        "stop_token_ids": st.sampled_from([(), (3, 9), (VOCAB + 9,)]),
    },
)
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=6).map(tuple)
SEQUENCES = st.builds(
    lambda params, prompt, made, seed: make_sequence(prompt, made, seed, **params),
    PARAMS,
    TOKENS.filter(bool),
    TOKENS,
    st.integers(0, 2**63),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seqs=st.lists(SEQUENCES, min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_draws_what_the_formula_says(seqs: list[Sequence], seed: int) -> None:
    logits = make_logits(len(seqs), seed)
    drawn = draw_tokens(logits, seqs)
    for row, seq, one in zip(logits.tolist(), seqs, drawn, strict=True):
        number = uniform(seq.seed, len(seq.output_ids))
        token, distance = naive_draw(naive_probabilities(row, seq), number)
        assert one.token_id == token or distance < 1e-5


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seq=SEQUENCES, others=st.lists(SEQUENCES, max_size=5), place=st.integers(0, 5))
def test_a_draw_does_not_depend_on_batch_mates(
    seq: Sequence, others: list[Sequence], place: int
) -> None:
    row = make_logits(1, 1)
    alone = draw_tokens(row, [seq])[0]
    batch = [*others[:place], seq, *others[place:]]
    index = min(place, len(others))
    logits = make_logits(len(batch), 2)
    logits[index] = row[0]
    assert draw_tokens(logits, batch)[index] == alone


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
def test_zero_temperature_takes_the_most_likely(temperature: float) -> None:
    logits = make_logits(3)
    seqs = [make_sequence(temperature=temperature, seed=i) for i in range(3)]
    assert [d.token_id for d in draw_tokens(logits, seqs)] == logits.argmax(-1).tolist()


def test_greedy_and_random_rows_mix() -> None:
    logits = make_logits(2)
    drawn = draw_tokens(logits, [make_sequence(seed=5), make_sequence(temperature=0.0)])
    assert drawn[0] == draw_tokens(logits[:1], [make_sequence(seed=5)])[0]
    assert drawn[1].token_id == int(logits[1].argmax())


def test_the_same_seed_draws_the_same_and_another_one_differs() -> None:
    logits = torch.zeros(1, 5000)
    tokens = [draw_tokens(logits, [make_sequence(seed=seed)])[0].token_id for seed in (1, 1, 2, 3)]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3


def test_each_token_of_an_answer_gets_its_own_number() -> None:
    logits = torch.zeros(1, 5000)
    seqs = [make_sequence(made=(1,) * count) for count in range(20)]
    assert len({draw_tokens(logits, [seq])[0].token_id for seq in seqs}) > 15


def test_frequencies_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(3000, 1)
    drawn = draw_tokens(logits, [make_sequence(seed=seed) for seed in range(3000)])
    counts = Counter(one.token_id for one in drawn)
    assert [counts[i] / 3000 for i in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


@pytest.mark.parametrize("vocab", [40, 5000])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.9999])
def test_top_p_keeps_the_smallest_set_in_large_vocabularies_too(vocab: int, top_p: float) -> None:
    logits = make_logits(1, 3, vocab) / 10
    probs = logits[0].softmax(0).sort(descending=True)
    kept = set(probs.indices[: int((probs.values.cumsum(0) < top_p).sum()) + 1].tolist())
    seqs = [make_sequence(seed=seed, top_p=top_p) for seed in range(400)]
    drawn = {one.token_id for one in draw_tokens(logits.repeat(400, 1), seqs)}
    assert drawn <= kept
    assert len(drawn) > min(len(kept), 100) * 0.5


def test_top_k_wider_than_the_first_cut_works() -> None:
    logits = make_logits(1, 3, 5000)
    allowed = set(logits[0].topk(2000).indices.tolist())
    seqs = [make_sequence(seed=seed, top_k=2000, temperature=50.0) for seed in range(300)]
    drawn = {one.token_id for one in draw_tokens(logits.repeat(300, 1), seqs)}
    assert drawn <= allowed
    assert len(drawn - set(logits[0].topk(1024).indices.tolist())) > 20


def test_no_end_before_min_tokens() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, 7] = 50.0
    assert draw_tokens(logits, [make_sequence(min_tokens=2, temperature=0.0)])[0].token_id != 7
    late = make_sequence(made=(1,), min_tokens=2, temperature=0.0)
    assert draw_tokens(logits, [late])[0].token_id == 7


def test_logprobs_are_the_models_own() -> None:
    logits = make_logits(2)
    expected = logits.log_softmax(-1)
    asking = make_sequence(temperature=0.3, logit_bias={4: 100.0}, logprobs=3)
    drawn, silent = draw_tokens(logits, [asking, make_sequence()])
    assert drawn.token_id == 4
    assert drawn.logprob == pytest.approx(float(expected[0, 4]))
    best = expected[0].topk(3)
    assert [id for id, _ in drawn.top] == best.indices.tolist()
    assert [value for _, value in drawn.top] == pytest.approx(best.values.tolist())
    assert silent == Drawn(silent.token_id)


def test_logprobs_zero_reports_the_chosen_one_alone() -> None:
    drawn = draw_tokens(make_logits(1), [make_sequence(logprobs=0)])[0]
    assert drawn.logprob is not None
    assert drawn.top == ()


def test_draws_leave_the_logits_alone() -> None:
    logits = make_logits(1)
    before = logits.clone()
    draw_tokens(logits, [make_sequence(made=(3,), presence_penalty=1.0, top_k=3, min_p=0.1)])
    assert torch.equal(logits, before)
