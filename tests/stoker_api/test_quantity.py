"""Quantities as numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.fields import QUANTITY
from stoker_api.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [(4, 4), ("500m", 0.5), ("1.5", 1.5), ("2k", 2000), ("1Ki", 1024), ("16Gi", 16 * 2**30)],
)
def test_quantities_are_read_as_kubernetes_means_them(text: int | str, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "4 Gi", "4gi", "-1"])
def test_what_is_no_quantity_is_refused_by_value(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_quantity(text)


@given(st.from_regex(QUANTITY, fullmatch=True))
def test_whatever_a_field_lets_in_is_a_number(text: str) -> None:
    if "." not in text or text.strip("0123456789.")[:1] != ".":
        assert parse_quantity(text.strip()) >= 0
