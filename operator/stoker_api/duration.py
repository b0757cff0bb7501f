"""Durations as people write them in manifests: `90s`, `5m`, `1h30m`, `250ms`.

Knows the grammar (a subset of Go's, so that CEL's `duration()` reads the same) and nothing else.
The API models keep the text, everybody else asks for seconds.
"""

from __future__ import annotations

import re

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""One or more of number and unit, in any order; no sign, no spaces, never empty."""

_TERM = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration, `1h30m` → 5400.0. Raises `ValueError` naming the text."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"must be a duration such as 90s, 5m or 1h30m, was {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _TERM.findall(text))
