"""Typed fields over defaults; what is wrong is named with its path."""

from __future__ import annotations

import math

import pytest

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken
from stoker_runtime.fields import Fields


def test_null_is_not_absent_where_a_family_has_a_default() -> None:
    fields = Fields({"a": None, "b": 3}, defaults={"a": 1, "b": 1, "c": 1})
    assert [fields.value(name) for name in "abc"] == [None, 3, 1]


def test_null_and_absent_take_the_reader_s_default() -> None:
    assert Fields({"a": None}).size("a", 7) == Fields({}).size("a", 7) == 7
    assert Fields({}).number("a", 0.5) == 0.5
    assert Fields({}).maybe_number("a") is None
    assert not Fields({}).flag("a")
    assert Fields({}).one_of("a", ("silu",), "silu") == "silu"
    assert Fields({}).flag("a", default=True)


@pytest.mark.parametrize("value", [True, "3", 0, -1, 2.0, [], 2**31])
def test_sizes_are_positive_whole_numbers(value: object) -> None:
    with pytest.raises(CheckpointBroken, match="`a` must be "):
        Fields({"a": value}).size("a")


@pytest.mark.parametrize("value", [True, "3", 0, -1.5, math.nan, math.inf, 10**400, 1e-40])
def test_numbers_are_positive_and_finite(value: object) -> None:
    with pytest.raises(CheckpointBroken, match="`a` must be a number > 0, was "):
        Fields({"a": value}).number("a")
    with pytest.raises(CheckpointBroken, match="`a` must be a list of 2 numbers > 0, was "):
        Fields({"a": [1, value]}).numbers("a", 2)


def test_a_field_of_an_object_is_named_with_its_path() -> None:
    inner = Fields({"a": {"b": {"c": 0}}}).child("a").child("b")
    with pytest.raises(CheckpointBroken, match=r"`a\.b\.c` must be a whole number ≥ 1, was 0"):
        inner.size("c")
    with pytest.raises(CheckpointBroken, match="`a` must be an object, was 3"):
        Fields({"a": 3}).child("a")


def test_what_makes_sense_and_has_no_code_is_unsupported() -> None:
    with pytest.raises(ArchitectureUnsupported, match=r"`a` 'gelu' is not supported; .*'silu'"):
        Fields({"a": "gelu"}).one_of("a", ("silu",))
