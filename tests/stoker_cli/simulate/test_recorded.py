"""A deployment's last day made into a trace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.trace import Row
from stoker_cli.simulate.recorded import UNKNOWN_OUTPUT_TOKENS, expand_minutes

COLUMNS = ["minute", "requests", "peak", "input_tokens", "output_tokens"]


def expand(*minutes: list[int]) -> list[Row]:
    return expand_minutes({"columns": COLUMNS, "minutes": list(minutes)})


def test_a_burst_stays_a_burst_and_the_rest_comes_evenly() -> None:
    rows = expand([100, 5, 3, 1000, 0], [102, 1, 1, 50, 600])
    assert [row.at_s for row in rows] == [0, 0, 0, 20, 40, 120]
    assert [row.input_tokens for row in rows] == [200] * 5 + [50]
    assert {row.output_tokens for row in rows} == {100}


def test_what_nobody_has_counted_is_taken_as_usual() -> None:
    [row] = expand([7, 1, 1, 0, 0])
    assert row.output_tokens == UNKNOWN_OUTPUT_TOKENS
    assert row.input_tokens > 1


def test_minutes_in_which_answers_only_ended_ask_nothing() -> None:
    assert len(expand([1, 1, 1, 10, 0], [2, 0, 0, 0, 30])) == 1
    assert expand() == []


def test_columns_of_a_newer_operator_do_no_harm() -> None:
    columns = ["requests", "minute", "colour", "input_tokens", "output_tokens", "peak"]
    [row] = expand_minutes({"columns": columns, "minutes": [[1, 9, 4, 12, 3, 1]]})
    assert (row.input_tokens, row.output_tokens) == (12, 3)


@pytest.mark.parametrize(
    "document",
    [{}, {"columns": COLUMNS}, {"columns": COLUMNS, "minutes": [[1]]}, {"columns": 1}, []],
    ids=str,
)
def test_what_is_no_record_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"record|argument"):
        expand_minutes(document)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 10**6)), max_size=30)
)
def test_every_request_comes_in_its_minute_and_in_order(
    minutes: list[tuple[int, int, int]],
) -> None:
    table = [[at, count, peak, tokens, 0] for at, (count, peak, tokens) in enumerate(minutes)]
    rows = expand(*table)
    assert len(rows) == sum(count for count, _, _ in minutes)
    assert rows == sorted(rows, key=lambda row: row.at_s)
    assert all(row.input_tokens >= 1 and row.output_tokens >= 1 for row in rows)
    for at, (count, _, _) in enumerate(minutes):
        assert sum(60 * at <= row.at_s < 60 * (at + 1) for row in rows) == count
