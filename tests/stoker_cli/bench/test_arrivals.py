"""Arrivals: the law of the gaps, the mean rate, and what is refused."""

import itertools
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.arrivals import draw_arrivals


def draw(rate: float, burstiness: float, count: int, seed: int = 0) -> list[float]:
    return list(itertools.islice(draw_arrivals(rate, burstiness, Random(seed)), count))


@given(st.floats(0.01, 1000), st.floats(0, 5), st.integers())
def test_arrivals_start_at_zero_and_never_go_back(rate: float, burst: float, seed: int) -> None:
    arrivals = draw(rate, burst, 50, seed)
    assert arrivals[0] == 0
    assert arrivals == sorted(arrivals)
    assert arrivals == draw(rate, burst, 50, seed)


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 3.0])
def test_gaps_have_the_mean_and_the_variation_asked_for(burstiness: float) -> None:
    gaps = [later - earlier for earlier, later in itertools.pairwise(draw(4, burstiness, 20_001))]
    mean = statistics.fmean(gaps)
    assert mean == pytest.approx(0.25, rel=0.1)
    assert statistics.stdev(gaps) / mean == pytest.approx(burstiness, rel=0.1)


def test_without_burstiness_the_rate_is_constant() -> None:
    assert draw(4, 0, 5) == [0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("rate", "burstiness"), [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, -1)]
)
def test_impossible_rates_are_refused(rate: float, burstiness: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        draw_arrivals(rate, burstiness, Random(0))
