"""The quantile that everybody means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.quantile import pick_quantile


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.25, 1.5), (0.5, 2), (0.9, 2.8), (1.0, 3)], ids=str
)
def test_quantiles_lie_on_straight_lines_between_the_values(share: float, value: float) -> None:
    assert pick_quantile([3, 1, 2], share) == pytest.approx(value)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_with_their_share_and_stay_inside(
    values: list[float], low: float, high: float
) -> None:
    ordered = sorted(values)
    low, high = sorted((low, high))
    below, above = pick_quantile(ordered, low), pick_quantile(ordered, high)
    assert ordered[0] <= below <= above + 1e-6
    assert above <= ordered[-1] + 1e-6
