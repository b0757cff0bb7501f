"""Recorded arrivals with lengths, read from the forms in which traces are published.

Knows three forms, plain or gzip: a table with `arrival_s,input_tokens,output_tokens`; Azure's LLM
traces with `TIMESTAMP,ContextTokens,GeneratedTokens` (github.com/Azure/AzurePublicDataset); and
Mooncake's JSON lines with `timestamp` in milliseconds, `input_length`, `output_length` and the
`hash_ids` of 512-token blocks (github.com/kvcache-ai/Mooncake). Does not
know replay.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

BLOCK_TOKENS = 512
"""Tokens behind one of Mooncake's hash ids."""
_GZIP = b"\x1f\x8b"
_Item = TypeVar("_Item")


class TraceInvalid(ValueError):
    """The file is none of the three forms; says which line is wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a trace."""

    at_s: float
    """Seconds since the first request."""
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Ids of the prompt's blocks, where the trace tells them; equal ids are equal text."""
    block_tokens: int = BLOCK_TOKENS

    def scaled(self, factor: float) -> Row:
        """The request with all lengths so many times as long; at least one token each."""
        inputs, outputs, block = (
            max(1, round(length * factor))
            for length in (self.input_tokens, self.output_tokens, self.block_tokens)
        )
        return replace(self, input_tokens=inputs, output_tokens=outputs, block_tokens=block)


def read_trace(path: Path) -> list[Row]:
    """All requests, by arrival, the first at 0. Raises `TraceInvalid` or `OSError`."""
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceInvalid(f"{path.name}: {error}") from error
    return parse_trace(text)


def parse_trace(text: str) -> list[Row]:
    """All requests of a trace in any of the forms. Raises `TraceInvalid`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise TraceInvalid("the trace is empty")
    rows = _parse_json(lines) if lines[0].lstrip().startswith("{") else _parse_table(lines)
    if not rows:
        raise TraceInvalid("the trace has a header and no requests")
    rows.sort(key=lambda row: row.at_s)
    return [replace(row, at_s=row.at_s - rows[0].at_s) for row in rows]


def _parse_table(lines: list[str]) -> list[Row]:
    table = csv.DictReader(lines)
    columns = set(table.fieldnames or ())
    if {"arrival_s", "input_tokens", "output_tokens"} <= columns:
        return _each(table, _read_plain)
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= columns:
        return _each(table, _read_azure)
    raise TraceInvalid(f"unknown columns {', '.join(sorted(columns))[:200]}")


def _parse_json(lines: list[str]) -> list[Row]:
    return _each(lines, _read_mooncake)


def _each(items: Iterable[_Item], read: Callable[[_Item], Row]) -> list[Row]:
    rows = []
    for number, item in enumerate(items, 1):
        try:
            row = read(item)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TraceInvalid(f"request {number} of the trace: {error!r}"[:300]) from error
        if row.input_tokens < 1 or row.output_tokens < 0 or not math.isfinite(row.at_s):
            raise TraceInvalid(f"request {number} of the trace has impossible numbers")
        rows.append(replace(row, output_tokens=max(1, row.output_tokens)))
    return rows


def _read_plain(row: Mapping[str, str]) -> Row:
    return Row(float(row["arrival_s"]), int(row["input_tokens"]), int(row["output_tokens"]))


def _read_azure(row: Mapping[str, str]) -> Row:
    whole, _, fraction = row["TIMESTAMP"].partition(".")
    at_s = datetime.fromisoformat(whole + "+00:00").timestamp()
    digits = fraction.partition("+")[0]  # seven digits, which `fromisoformat` does not read
    at_s += float(f"0.{digits}") if digits else 0.0
    return Row(at_s, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _read_mooncake(line: str) -> Row:
    row = json.loads(line)
    lengths = int(row["input_length"]), int(row["output_length"])
    return Row(row["timestamp"] / 1000, *lengths, tuple(map(int, row.get("hash_ids", ()))))
