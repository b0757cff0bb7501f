"""Checks of options that several commands have, each refused by its name.

Knows what makes a number or a path useless; does not know what commands do with them.
"""

from __future__ import annotations

import math
from pathlib import Path

import typer


def check_positive(**values: float | None) -> None:
    """Refuse what is not above 0; `cold_start` is told as `--cold-start`."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            option = name.replace("_", "-")
            raise typer.BadParameter(f"--{option} must be above 0, was {value:g}")


def check_writable(option: str, path: Path | None) -> None:
    """Refuse a file that can't be written, before anything is done that would be lost with it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise typer.BadParameter(f"{option} must be a file in a folder that exists, was {path}")
