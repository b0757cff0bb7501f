"""The timeline of a wake: order, starts and bars."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stoker_cli.timeline import Row, build_rows, draw_bar, draw_timeline

_NAMES = ["decided", "scheduled", "image", "container", "imports", "weights", "firstToken"]


def test_rows_follow_the_order_of_a_wake_whatever_the_order_of_the_status() -> None:
    rows = build_rows({"weights": 0.3, "decided": 0.1, "container": 0.5})
    assert [row.words for row in rows] == ["queued → decided", "container runs", "weights read"]


def test_a_phase_starts_where_the_one_before_ended() -> None:
    rows = build_rows({"decided": 0.1, "scheduled": 0.2, "container": 0.5})
    assert [row.start_s for row in rows] == pytest.approx([0.0, 0.1, 0.3])


def test_a_phase_of_a_newer_operator_is_shown_last_under_its_own_name() -> None:
    rows = build_rows({"adopted": 0.2, "decided": 0.1})
    assert [row.words for row in rows] == ["queued → decided", "adopted"]


@given(st.dictionaries(st.sampled_from(_NAMES), st.floats(0, 100), min_size=1))
def test_no_bar_leaves_its_column_and_every_phase_has_a_mark(phases: dict[str, float]) -> None:
    total_s = sum(phases.values())
    for row in build_rows(phases):
        bar = draw_bar(row, total_s)
        assert len(bar) <= 28
        assert ("█" in bar) == (total_s > 0)


def test_a_wake_without_a_total_has_no_bars() -> None:
    assert draw_bar(Row("decided", 0.0, 0.0), 0.0) == ""


def test_the_table_names_path_and_total() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(draw_timeline({"decided": 0.012, "firstToken": 0.2}, "fresh", 1.75))
    text = captured.get()
    assert "wake (fresh)" in text
    assert "0.012" in text
    assert "1.750" in text
