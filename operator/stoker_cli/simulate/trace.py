"""Request traces: when requests came, and how many tokens went in and out.

Knows the CSV form (`arrival_s,input_tokens,output_tokens`, gzip or plain); does not know replicas.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace."""

    arrival_s: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[Request]:
    """The requests, by arrival. Raises `ValueError` that names the line and what is wrong."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = csv.DictReader(lines)
        requests = [_parse(row, index) for index, row in enumerate(rows, 2)]
    if not requests:
        raise ValueError(f"{path} has no requests")
    return sorted(requests, key=lambda request: request.arrival_s)


def _parse(row: dict[str, str], line: int) -> Request:
    try:
        return Request(float(row["arrival_s"]), int(row["input_tokens"]), int(row["output_tokens"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"line {line}: {error!r} in {row}") from error
