"""Workloads: lengths, repeatability, and what prompts share with each other."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.trace import Row
from stoker_cli.bench.workload import WORKLOADS, Calibration, Prompts, Workload, fit_calibration

names = st.sampled_from(sorted(WORKLOADS))


def make(name: str, tag: str = "run", seed: int = 0) -> Prompts:
    return Prompts(WORKLOADS[name], seed, tag)


def num_shared(one: str, other: str) -> int:
    """Words with which both begin."""
    pairs = zip(one.split(), other.split(), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@given(names, st.integers(0, 10_000), st.text(max_size=20), st.integers())
def test_a_conversation_is_decided_by_seed_tag_and_index(
    name: str, index: int, tag: str, seed: int
) -> None:
    made = make(name, tag, seed).make(index)
    assert made == make(name, tag, seed).make(index)
    assert len(made.turns) == WORKLOADS[name].turns


@given(names, st.integers(0, 500))
def test_lengths_are_those_of_the_workload_in_every_run(name: str, index: int) -> None:
    workload = WORKLOADS[name]
    one, other = make(name, "one").make(index), make(name, "other").make(index)
    for turn, twin in zip(one.turns, other.turns, strict=True):
        span = workload.output_tokens
        assert span.low <= turn.max_tokens <= span.high
        assert turn.max_tokens == twin.max_tokens
        num_words = len(turn.text.split())
        assert num_words == len(twin.text.split())
        if not workload.is_code:
            assert workload.prompt_tokens.low <= num_words <= workload.prompt_tokens.high


@given(names, st.integers(0, 500), st.integers(0, 500))
def test_prompts_begin_differently_in_other_runs_and_at_other_places(
    name: str, one: int, other: int
) -> None:
    assert num_shared(first_words(name, "a", one), first_words(name, "b", one)) < 6
    if one != other:
        texts = (make(name).make(index).turns[0].text for index in (one, other))
        assert num_shared(*texts) < 6


def first_words(name: str, tag: str, index: int) -> str:
    conversation = make(name, tag).make(index)
    return conversation.system or conversation.turns[0].text


def test_only_a_shared_prefix_is_shared() -> None:
    one, other = (make("shared-prefix").make(index) for index in (1, 2))
    assert one.system == other.system
    assert len(one.system.split()) == 1024 + 6
    assert make("shared-prefix", "next run").make(1).system != one.system
    assert make("medium").make(1).system == ""


@given(st.floats(0.5, 20), st.integers(0, 300))
def test_calibration_finds_the_line_through_two_prompts(slope: float, overhead: int) -> None:
    few, many = ((n, round(slope * n) + overhead) for n in (20, 60))
    found = fit_calibration(few, many)
    assert found.tokens_per_word == pytest.approx(slope, abs=0.05)
    words = found.count_words(1000 + overhead)
    assert words * slope == pytest.approx(1000, rel=0.12, abs=2 + slope)


def test_a_server_that_counts_nonsense_leaves_words_and_tokens_equal() -> None:
    assert fit_calibration((20, 50), (60, 50)) == Calibration()
    assert Calibration(2.0, 500).count_words(10) == 1


def test_probes_have_the_length_that_is_counted() -> None:
    [turn] = make("medium").probe(60).turns
    assert len(turn.text.split()) == 60
    assert turn.max_tokens == 1


def test_a_replayed_request_has_the_lengths_of_its_row() -> None:
    [turn] = make("short").replay(3, Row(0.0, 700, 55)).turns
    assert len(turn.text.split()) == 700
    assert turn.max_tokens == 55


def test_equal_blocks_of_a_trace_become_equal_text() -> None:
    prompts = make("short")
    one, other = (
        prompts.replay(n, Row(0.0, 1400, 9, blocks)).turns[0].text
        for n, blocks in enumerate([(1, 2, 3), (1, 2, 4)])
    )
    assert num_shared(one, other) == 1024
    assert len(one.split()) == len(other.split()) == 1400
    again = make("short", "next run").replay(0, Row(0.0, 1400, 9, (1, 2, 3))).turns[0].text
    assert num_shared(one, again) < 6


def test_every_workload_says_what_it_is() -> None:
    assert list(WORKLOADS) == ["short", "medium", "long", "multi-turn", "code", "shared-prefix"]
    assert isinstance(WORKLOADS["code"], Workload)
    assert "def " in make("code").make(0).turns[0].text


def test_scaling_shortens_all_lengths_alike() -> None:
    scaled = WORKLOADS["shared-prefix"].scaled(0.25)
    assert (scaled.prompt_tokens.low, scaled.prompt_tokens.high) == (8, 32)
    assert (scaled.output_tokens.low, scaled.shared_tokens) == (8, 256)
    assert WORKLOADS["short"].scaled(0.001).prompt_tokens.low == 1
    assert all(workload.scaled(1.0) == workload for workload in WORKLOADS.values())
    row = Row(7.0, 1400, 9, (1, 2, 3)).scaled(0.25)
    assert row == Row(7.0, 350, 2, (1, 2, 3), 128)
    one, other = (
        make("short").replay(0, Row(0.0, 350, 2, blocks, 128)).turns[0].text
        for blocks in [(1, 2, 3), (1, 2, 4)]
    )
    assert num_shared(one, other) == 256
