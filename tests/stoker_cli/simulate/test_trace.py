"""Traces are read as they are published, and a bad line is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stoker_cli.simulate.trace import Request, read_trace

TEXT = "arrival_s,input_tokens,output_tokens\n2.5,10,20\n1.0,30,40\n"


def test_plain_and_packed_traces_come_out_by_arrival(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_text(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert read_trace(plain) == read_trace(packed) == [Request(1.0, 30, 40), Request(2.5, 10, 20)]


@pytest.mark.parametrize(
    ("text", "words"),
    [(TEXT + "x,1,1\n", "line 4"), ("a,b\n1,2\n", "arrival_s"), ("arrival_s\n", "no requests")],
    ids=["no number", "other columns", "empty"],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_trace(path)
