"""Quantities as Kubernetes writes them, as numbers: `500m`, `4`, `16Gi`.

Knows the suffixes that `fields.QUANTITY` lets in; does not know what is measured.
"""

from __future__ import annotations

import re

_FACTORS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{prefix}i": 2.0 ** (10 * power) for power, prefix in enumerate("KMGTPE", 1)
}
_PARTS = re.compile(r"([0-9.]+)([A-Za-z]*)")


def parse_quantity(quantity: int | str) -> float:
    """The number: cores, bytes or whatever is counted. Raises `ValueError`."""
    parts = _PARTS.fullmatch(str(quantity))
    if parts is None or parts[2] not in {"", *_FACTORS}:
        raise ValueError(f"must be a quantity such as 500m, 4 or 16Gi, was {quantity!r}")
    return float(parts[1]) * _FACTORS.get(parts[2], 1.0)
