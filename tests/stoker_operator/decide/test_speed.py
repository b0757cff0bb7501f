"""How fast replicas are: learned from reports, kept over restarts, told when it has changed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.demand import Announcement
from stoker_api.status import ReplicaSpeed
from stoker_operator.decide.speed import (
    REMEMBERED,
    Report,
    SpeedHistory,
    derive_model,
    read_report,
    recall_speed,
    record_speed,
)

USUAL = Report(0.01, 1e-4, 3e-4, 512)


def slower(factor: float) -> Report:
    return Report(USUAL.step_s * factor, USUAL.token_s * factor, USUAL.seq_s * factor, 512)


def told(*reports: Report) -> SpeedHistory:
    history = SpeedHistory("abc")
    for report in reports:
        history = history.with_report(report)
    return history


def announce(**fields: Any) -> Announcement:
    base = {"namespace": "ns", "deployment": "chat", "pod": "p", "address": "1:2"}
    return Announcement.model_validate(base | {"phase": "Ready"} | fields)


def test_a_pod_that_has_not_measured_yet_says_nothing() -> None:
    assert read_report(announce()) is None


def test_prompts_that_are_found_in_the_cache_cost_nothing() -> None:
    speed = {"step_s": 0.01, "token_s": 1e-4, "seq_s": 3e-4, "chunk_tokens": 512}
    assert read_report(announce(speed=speed)) == USUAL
    found = read_report(announce(speed=speed, cache={"tokens": 4096, "hit_share": 0.75}))
    assert found is not None
    assert found.token_s == pytest.approx(0.25e-4)
    whole = read_report(announce(speed=speed, cache={"tokens": 4096, "hit_share": 1.0}))
    assert whole is not None
    assert whole.token_s == pytest.approx(0.05e-4)


def test_one_odd_report_moves_nothing() -> None:
    assert told(USUAL, USUAL, slower(100)).estimate == USUAL
    assert told(USUAL, slower(0.01), USUAL, slower(50), USUAL).estimate == USUAL


def test_a_lasting_change_is_believed_after_three_reports() -> None:
    history = told(*[USUAL] * 9)
    for _ in range(3):
        history = history.with_report(slower(2))
    assert history.estimate == slower(2)


def test_another_template_is_another_machine() -> None:
    history = told(USUAL)
    assert history.of("abc") is history
    assert history.of("new").estimate is None


def test_the_model_has_the_measured_figures_and_no_goal_for_tokens() -> None:
    assert derive_model(SpeedHistory()) is None
    model = derive_model(told(USUAL))
    assert model is not None
    assert (model.prefill_tokens_s, model.step_s, model.step_per_seq_s) == (
        pytest.approx(1e4),
        0.01,
        3e-4,
    )
    assert model.token_goal_s == math.inf


def test_a_restarted_operator_goes_on_from_the_status() -> None:
    kept = record_speed(None, told(USUAL, slower(1.3), slower(0.9)))
    assert kept is not None
    assert (kept.reports, kept.prefill_tokens_per_second) == (3, 1e4)
    history = recall_speed(kept)
    assert history.template == "abc"
    assert history.estimate == USUAL
    assert record_speed(kept, history) is kept
    assert recall_speed(None) == recall_speed(ReplicaSpeed(template="abc")) == SpeedHistory()


def test_small_changes_are_not_told_and_a_new_template_forgets() -> None:
    kept = record_speed(None, told(*[USUAL] * REMEMBERED))
    assert record_speed(kept, told(*[slower(1.05)] * REMEMBERED)) is kept
    changed = record_speed(kept, told(*[slower(1.2)] * REMEMBERED))
    assert changed is not None
    assert changed.step_seconds == 0.012
    assert record_speed(kept, SpeedHistory("new")) is None
    assert record_speed(kept, SpeedHistory("abc")) is kept
    assert record_speed(kept, SpeedHistory("new").with_report(USUAL)) != kept


FIGURES = st.floats(1e-7, 1e3)
REPORTS = st.builds(Report, FIGURES, FIGURES, FIGURES, st.integers(1, 16384))


@given(st.lists(REPORTS, min_size=1, max_size=20))
def test_the_estimate_stays_between_what_was_reported(reports: list[Report]) -> None:
    history = told(*reports)
    known = history.estimate
    assert known is not None
    assert len(history.reports) <= REMEMBERED
    for figure in ("step_s", "token_s", "seq_s", "chunk_tokens"):
        values = [getattr(one, figure) for one in reports[-REMEMBERED:]]
        assert min(values) <= getattr(known, figure) <= max(values)
    kept = record_speed(None, history)
    assert recall_speed(kept).estimate is not None
    assert record_speed(kept, history) is kept
