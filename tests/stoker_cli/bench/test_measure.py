"""The figures of a run against their definitions."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.measure import CUT, Goals, Sample, describe, summarize

GOALS = Goals(ttft_s=2.0, tpot_s=0.05)
moments = st.floats(0, 100)


def make_sample(
    due: float = 0.0, sent: float = 0.0, first: float = 1.0, tpot: float = 0.01, error: str = ""
) -> Sample:
    """101 tokens: the first at `first`, the others `tpot` apart."""
    last = first + 100 * tpot
    return Sample(due, sent, last, first, last, (tpot,) * 100, 50, 101, 16, True, error)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    due, late, wait = draw(moments), draw(moments), draw(moments)
    error = draw(st.sampled_from(["", "", "timeout", "HTTP 500", CUT]))
    sent = due + late
    return make_sample(due, sent, sent + wait, draw(st.floats(0, 0.1)), error)


def test_each_time_is_what_its_name_says() -> None:
    sample = make_sample(due=10.0, sent=10.5, first=11.0, tpot=0.02)
    assert sample.queue_s == 0.5
    assert sample.ttft_s == 0.5
    assert sample.ttft_due_s == 1.0
    assert sample.tpot_s == pytest.approx(0.02)
    assert sample.e2e_s == pytest.approx(2.5)
    assert sample.e2e_due_s == pytest.approx(3.0)


def test_one_token_has_no_time_per_output_token() -> None:
    sample = Sample(0, 0, 1, 1, 1, output_tokens=1)
    assert sample.tpot_s is None
    assert GOALS.are_met(sample)


@pytest.mark.parametrize(
    ("sample", "is_good"),
    [
        (make_sample(), True),
        (make_sample(first=2.01), False),
        (make_sample(tpot=0.051), False),
        (make_sample(sent=1.5, first=2.01), False),
        (make_sample(error="timeout"), False),
    ],
    ids=["in time", "late first token", "slow tokens", "sent too late", "failed"],
)
def test_goals_count_from_when_a_request_was_due(sample: Sample, is_good: bool) -> None:
    assert GOALS.are_met(sample) is is_good


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200))
def test_percentiles_agree_with_the_standard_library(values: list[float]) -> None:
    expected = statistics.quantiles(values, n=100, method="inclusive")
    found = describe(values)
    for share, percentile in ((50, found.p50), (90, found.p90), (99, found.p99)):
        assert percentile == pytest.approx(expected[share - 1], abs=1e-6)
    assert found.highest == max(values)


@given(st.lists(samples(), max_size=40))
def test_every_sample_is_counted_once(run: list[Sample]) -> None:
    summary = summarize(run, GOALS)
    assert summary.num_requests + summary.num_cut == len(run)
    assert summary.num_ok + sum(summary.errors.values()) == summary.num_requests
    assert summary.num_good <= summary.num_ok
    assert 0 <= summary.goodput_share <= 1
    assert summary.goodput_rate <= summary.request_rate
    for name, found in summary.distributions.items():
        assert found.count == summary.num_ok * (100 if name == "itl_s" else 1)
    assert summarize(run[::-1], GOALS).distributions.keys() == summary.distributions.keys()


def test_rates_are_over_the_time_from_first_due_to_last_end() -> None:
    run = [make_sample(due=n, sent=n, first=n + 1.0) for n in range(9)]
    summary = summarize([*run, make_sample(error="HTTP 503")], GOALS)
    assert summary.duration_s == pytest.approx(10.0)
    assert summary.request_rate == pytest.approx(0.9)
    assert summary.output_rate == pytest.approx(90.9)
    assert summary.input_rate == pytest.approx(45.0)
    assert summary.goodput_share == pytest.approx(0.9)
    assert summary.cached_tokens == 9 * 16
    assert summary.errors == {"HTTP 503": 1}


def test_nothing_measured_is_no_division_by_zero() -> None:
    summary = summarize([], GOALS)
    assert summary.goodput_share == summary.output_rate == 0.0
    assert summary.distributions == {}
