"""Durations in manifests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("1m1ms", 60.001),
        ("0s", 0.0),
        ("30m1h", 5400.0),
    ],
)
def test_reads_what_people_write(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "+5m", "2d", "5M", "1h30", ".5h", "5m\n", "٥m", "PT5M"]
)
def test_refuses_anything_else_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 90s, 5m or 1h30m") as error:
        parse_duration(text)
    assert repr(text) in str(error.value)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == hours * 3600 + minutes * 60 + seconds
