"""Options that make no sense are refused by their names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import typer

from stoker_cli.option import check_order, check_positive, check_writable


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_only_numbers_above_zero_pass(value: float) -> None:
    check_positive(cold_start=1e-9, step=None, goal=3)
    with pytest.raises(typer.BadParameter, match=f"--cold-start must be above 0, was {value:g}"):
        check_positive(cold_start=value)


def test_bounds_stand_in_order() -> None:
    check_order("--low", 2, "--high", 2)
    check_order("--low", 5, "--high", None)
    with pytest.raises(typer.BadParameter, match="--high must be at least --low, was 2 < 5"):
        check_order("--low", 5, "--high", 2)


def test_a_file_needs_a_folder(tmp_path: Path) -> None:
    check_writable("--json", None)
    check_writable("--json", tmp_path / "new.json")
    for path in (tmp_path, tmp_path / "no" / "new.json"):
        with pytest.raises(typer.BadParameter, match="--json must be a file"):
            check_writable("--json", path)
