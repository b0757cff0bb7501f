"""Options that several commands have: how they are read, and what is refused by its name.

Knows what makes a number or a path useless; does not know what commands do with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Form(StrEnum):
    """How a command tells what it found."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="For people, or for programs.")]


def print_json(document: Mapping[str, Any]) -> None:
    """One document on standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def check_positive(**values: float | None) -> None:
    """Refuse what is not above 0; `cold_start` is told as `--cold-start`."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            option = name.replace("_", "-")
            raise typer.BadParameter(f"--{option} must be above 0, was {value:g}")


def check_order(low_option: str, low: int | None, high_option: str, high: int | None) -> None:
    """Refuse bounds that leave nothing between them."""
    if low is not None and high is not None and high < low:
        words = f"{high_option} must be at least {low_option}"
        raise typer.BadParameter(f"{words}, was {high} < {low}")


def check_writable(option: str, path: Path | None) -> None:
    """Refuse a file that can't be written, before anything is done that would be lost with it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise typer.BadParameter(f"{option} must be a file in a folder that exists, was {path}")
