"""A deployment's last day as the operator remembers it, made into a trace.

Knows the operator's minutes and how requests are laid out in them; does not know how they are
fetched. What came in the busiest second of a minute comes at once, the rest evenly after it: bursts
stay bursts, and only the order inside a minute is made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stoker_cli.bench.trace import Row

MINUTE_S = 60.0
UNKNOWN_INPUT_TOKENS = 256
UNKNOWN_OUTPUT_TOKENS = 128
"""Taken where gateways have not learned yet how long answers are."""


def expand_minutes(document: Mapping[str, Any]) -> list[Row]:
    """Requests by arrival, the first minute at 0. Raises `ValueError` when it is no such record."""
    try:
        columns = list(document["columns"])
        minutes = [dict(zip(columns, map(int, row), strict=True)) for row in document["minutes"]]
        return _lay_out(minutes)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record of arrivals: {error!r}") from error


def _lay_out(minutes: Sequence[Mapping[str, int]]) -> list[Row]:
    requests = sum(minute["requests"] for minute in minutes)
    made = sum(minute["output_tokens"] for minute in minutes)
    outputs = max(1, made // requests) if requests and made else UNKNOWN_OUTPUT_TOKENS
    rows: list[Row] = []
    for minute in minutes:
        count, at_s = minute["requests"], (minute["minute"] - minutes[0]["minute"]) * MINUTE_S
        asked = minute["input_tokens"]
        inputs = max(1, asked // count) if count and asked else UNKNOWN_INPUT_TOKENS
        rows += [Row(at_s + offset_s, inputs, outputs) for offset_s in _offsets(count, minute)]
    return rows


def _offsets(count: int, minute: Mapping[str, int]) -> list[float]:
    """Seconds into the minute: 5 requests, 3 of them at once, come at 0, 0, 0, 20 and 40."""
    peak = min(count, minute["peak"])
    rest = count - peak
    return [0.0] * peak + [MINUTE_S * (i + 1) / (rest + 1) for i in range(rest)]
