"""Nudges: three, spread out, then silence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.nudge import NUDGE_AFTER_S, is_nudge_due, next_nudge_in

SECONDS = st.floats(0, 60)


def test_not_before_a_container_has_had_time_to_start() -> None:
    assert not is_nudge_due(0.9, 0)
    assert is_nudge_due(1.0, 0)
    assert not is_nudge_due(1.0, 1)


def test_a_pod_that_stays_silent_is_left_alone_in_the_end() -> None:
    assert not is_nudge_due(3600.0, len(NUDGE_AFTER_S))
    assert next_nudge_in(3600.0, len(NUDGE_AFTER_S)) is None


@given(SECONDS, st.integers(0, len(NUDGE_AFTER_S) - 1))
def test_one_is_due_exactly_when_the_next_look_says_so(silent_s: float, num_nudges: int) -> None:
    wait_s = next_nudge_in(silent_s, num_nudges)
    assert wait_s is not None
    assert is_nudge_due(silent_s, num_nudges) == (wait_s == 0)
