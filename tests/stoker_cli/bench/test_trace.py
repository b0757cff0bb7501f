"""Traces in the forms in which they are published, and files that are none of them."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.trace import Row, TraceInvalid, parse_trace, read_trace

PLAIN = "arrival_s,input_tokens,output_tokens\n3.500,12,7\n1.250,40,1\n"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 23:59:59.9000000,374,44
2023-11-17 00:00:00.1500000,396,109
"""
MOONCAKE = """{"timestamp": 27000, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30500, "input_length": 6472, "output_length": 0, "hash_ids": [46]}
"""


def test_reads_a_table_and_sorts_it_by_arrival() -> None:
    assert parse_trace(PLAIN) == [Row(0.0, 40, 1), Row(2.25, 12, 7)]


def test_reads_the_azure_form_over_midnight() -> None:
    first, second = parse_trace(AZURE)
    assert first == Row(0.0, 374, 44)
    assert second.at_s == pytest.approx(0.25)
    assert (second.input_tokens, second.output_tokens) == (396, 109)


def test_reads_the_mooncake_form_with_its_blocks() -> None:
    assert parse_trace(MOONCAKE) == [Row(0.0, 6955, 52, (46, 47)), Row(3.5, 6472, 1, (46,))]


SERVEGEN = "request_id,timestamp,input_tokens,output_tokens\n0,10.5,40,1\n1,12.75,12,7\n"
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,GPT-4,0,0,0,API log
"""
QWEN = """{"chat_id": 9, "timestamp": 61.5, "input_length": 30, "output_length": 9, "hash_ids": []}
{"chat_id": 160, "timestamp": 63, "input_length": 30, "output_length": 9, "hash_ids": [1, 2]}
"""


def test_reads_tables_of_other_names() -> None:
    assert parse_trace(SERVEGEN) == [Row(0.0, 40, 1), Row(2.25, 12, 7)]
    assert parse_trace(BURSTGPT) == [Row(0.0, 472, 18), Row(40.5, 1, 1)]


def test_seconds_are_told_from_milliseconds() -> None:
    assert parse_trace(QWEN) == [Row(0.0, 30, 9, (), 16), Row(1.5, 30, 9, (1, 2), 16)]


def test_a_table_of_a_spreadsheet_begins_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(AZURE, encoding="utf-8-sig")
    assert read_trace(path) == parse_trace(AZURE)


@pytest.mark.parametrize("ending", ["Z", "+00:00", ""])
def test_instants_end_in_many_ways(ending: str) -> None:
    rows = f"2024-05-10 00:00:00.009930{ending},1,2\n2024-05-10 00:00:01{ending},1,2\n"
    assert parse_trace(AZURE.splitlines()[0] + "\n" + rows)[1].at_s == pytest.approx(0.99007)


def test_reads_files_compressed_or_not(tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_text(PLAIN)
    packed.write_bytes(gzip.compress(PLAIN.encode()))
    assert read_trace(plain) == read_trace(packed) == parse_trace(PLAIN)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (PLAIN.splitlines()[0], "no requests"),
        ("a,b\n1,2\n", "unknown columns a,b; a table has one of: arrival_s,input_tokens"),
        (
            "arrival_s,input_tokens,output_tokens\n1,2\n",
            "request 1 of the trace: `output_tokens` .* None",
        ),
        ("arrival_s,input_tokens,output_tokens\n1,2,3\nx,2,3\n", "request 2 of the trace"),
        (
            "arrival_s,input_tokens,output_tokens\nnan,2,3\n",
            "`arrival_s` must be a number of seconds .* 'nan'",
        ),
        (
            "arrival_s,input_tokens,output_tokens\n1,-2,3\n",
            "`input_tokens` must not be below 0, was -2",
        ),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "request 1 of the trace"),
        ('{"timestamp": 1}\n', "request 1 of the trace: `input_length` must be a number, was None"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 7}\n', "`hash_ids`"),
        ('{"a": 1}\n[2]\n', "`input_length`"),
        ('{"timestamp": 1, \n', "request 1 of the trace"),
    ],
)
def test_other_files_are_refused_by_line(text: str, words: str) -> None:
    with pytest.raises(TraceInvalid, match=words):
        parse_trace(text)


@given(st.text() | st.text().map(lambda text: PLAIN + text) | st.text().map("{{{}".format))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        rows = parse_trace(text)
    except TraceInvalid:
        return
    assert rows[0].at_s == 0


@pytest.mark.parametrize("at", ["nan", "inf", "-inf", "1e999"])
def test_an_arrival_that_never_comes_is_refused(at: str) -> None:
    with pytest.raises(TraceInvalid, match="request 3 of the trace: `arrival_s` must be a number"):
        parse_trace(f"{PLAIN}{at},1,1\n")


ARCHIVE = gzip.compress(PLAIN.encode() * 9)


@pytest.mark.parametrize("damaged", [ARCHIVE[:-9], ARCHIVE[:20] + b"\xff" * 20 + ARCHIVE[40:]])
def test_damaged_archives_are_refused(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(damaged)
    with pytest.raises(TraceInvalid, match=r"t\.csv\.gz"):
        read_trace(path)
