"""Recorded arrivals with lengths, read from the forms in which traces are published.

Knows these, plain or gzip: tables with the columns of `TABLES` (ours; ServeGen's
github.com/alibaba/ServeGen; BurstGPT's github.com/HPMLL/BurstGPT; Azure's LLM traces
github.com/Azure/AzurePublicDataset), and JSON lines with `timestamp`, `input_length`,
`output_length` and `hash_ids` (Mooncake's github.com/kvcache-ai/Mooncake, in milliseconds and
blocks of 512 tokens; Qwen-Bailian's github.com/alibaba-edu/qwen-bailian-usagetraces-anon, which
have a `chat_id`, in seconds and blocks of 16). Does not know replay.
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

TABLES = (
    ("arrival_s", "input_tokens", "output_tokens"),
    ("timestamp", "input_tokens", "output_tokens"),
    ("Timestamp", "Request tokens", "Response tokens"),
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
)
"""Columns of tables: when (seconds, or an instant), and both lengths."""
BLOCK_TOKENS = 512
"""Tokens behind one of Mooncake's hash ids."""
QWEN_BLOCK_TOKENS = 16
_GZIP = b"\x1f\x8b"
_Item = TypeVar("_Item")


class TraceInvalid(ValueError):
    """The file is in none of the forms, or a request in it makes no sense; says which."""


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
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode("utf-8-sig")
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
    columns = table.fieldnames or ()
    known = next((names for names in TABLES if set(names) <= set(columns)), None)
    if known is None:
        forms = "; ".join(",".join(names) for names in TABLES)
        found = ",".join(columns)[:200]
        raise TraceInvalid(f"unknown columns {found}; a table has one of: {forms}")
    return _each(table, lambda row: _read_cells(row, *known))


def _parse_json(lines: list[str]) -> list[Row]:
    return _each(lines, _read_json)


def _each(items: Iterable[_Item], read: Callable[[_Item], Row]) -> list[Row]:
    rows = []
    for number, item in enumerate(items, 1):
        try:
            rows.append(read(item))
        except ValueError as error:
            raise TraceInvalid(f"request {number} of the trace: {error}"[:300]) from error
    return rows


def _read_cells(row: Mapping[str, object], when: str, inputs: str, outputs: str) -> Row:
    return Row(_instant_s(row, when), _length(row, inputs), _length(row, outputs))


def _read_json(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"must be an object, was {row!r}")
    blocks = row.get("hash_ids") or []
    if not isinstance(blocks, list) or not all(isinstance(one, int) for one in blocks):
        raise ValueError(f"`hash_ids` must be a list of whole numbers, was {blocks!r}")
    lengths = _length(row, "input_length"), _length(row, "output_length")
    at = _number(row, "timestamp")
    if "chat_id" in row:
        return Row(at, *lengths, tuple(blocks), QWEN_BLOCK_TOKENS)
    return Row(at / 1000, *lengths, tuple(blocks))


def _number(row: Mapping[str, object], name: str) -> float:
    value = row.get(name)
    number = _parse_number(str(value))
    if number is None:
        raise ValueError(f"`{name}` must be a number, was {value!r}")
    return number


def _parse_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _length(row: Mapping[str, object], name: str) -> int:
    """Tokens; requests that failed have none, and are replayed with one."""
    if (number := _number(row, name)) < 0:
        raise ValueError(f"`{name}` must not be below 0, was {number:g}")
    return max(1, int(number))


def _instant_s(row: Mapping[str, object], name: str) -> float:
    """Seconds, or an instant such as `2023-11-16 18:15:46.6805900` in UTC."""
    text = str(row.get(name))
    if (seconds := _parse_number(text)) is not None:
        return seconds
    whole, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    try:
        at_s = datetime.fromisoformat(whole + "+00:00").timestamp()
    except ValueError:
        words = "must be a number of seconds or an instant in UTC"
        raise ValueError(f"`{name}` {words}, was {text!r}") from None
    return at_s + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
