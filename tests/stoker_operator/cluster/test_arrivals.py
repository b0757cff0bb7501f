"""The last day of a deployment, minute by minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.cluster.arrivals import KEPT_MINUTES, ArrivalBook

KEY = "ns/chat"


def test_counts_by_minute_and_keeps_the_busiest_second() -> None:
    book = ArrivalBook()
    book.note(KEY, 2, (20, 0), 600.0)
    book.note(KEY, 3, (30, 7), 600.9)
    book.note(KEY, 4, (40, 0), 601.0)
    book.note(KEY, 1, (10, 5), 665.0)
    assert book.rows(KEY, 700) == [(10, 9, 5, 90, 7), (11, 1, 1, 10, 5)]


def test_a_minute_without_anything_takes_no_room() -> None:
    book = ArrivalBook()
    book.note(KEY, 0, (0, 0), 600)
    assert book.rows(KEY, 700) == []


def test_an_answer_that_ends_later_counts_where_it_ends() -> None:
    book = ArrivalBook()
    book.note(KEY, 1, (10, 0), 600)
    book.note(KEY, 0, (0, 50), 720)
    assert book.rows(KEY, 720) == [(10, 1, 1, 10, 0), (12, 0, 0, 0, 50)]


def test_yesterday_is_forgotten() -> None:
    book = ArrivalBook()
    for minute in range(KEPT_MINUTES + 10):
        book.note(KEY, 1, (1, 0), minute * 60.0)
    now = (KEPT_MINUTES + 9) * 60.0
    assert len(book.rows(KEY, now)) == KEPT_MINUTES
    assert book.rows(KEY, now + 86400) == []


def test_a_deployment_that_is_gone_is_forgotten() -> None:
    book = ArrivalBook()
    book.note(KEY, 1, (1, 1), 60)
    book.forget(KEY)
    assert book.rows(KEY, 60) == []


def test_a_clock_that_goes_back_counts_into_the_last_minute() -> None:
    book = ArrivalBook()
    book.note(KEY, 1, (0, 0), 600)
    book.note(KEY, 1, (0, 0), 540)
    assert book.rows(KEY, 600) == [(10, 2, 1, 0, 0)]


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 50))))
def test_no_request_is_lost_and_no_peak_exceeds_its_minute(notes: list[tuple[float, int]]) -> None:
    book, now = ArrivalBook(), 0.0
    for pause_s, requests in notes:
        now += pause_s
        book.note(KEY, requests, (requests, 0), now)
    rows = book.rows(KEY, now)
    assert sum(row[1] for row in rows) == sum(requests for _, requests in notes)
    assert all(0 < peak <= requests for _, requests, peak, _, _ in rows)
