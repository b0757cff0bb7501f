"""Expected files: compared as text, or rewritten when `STOKER_GOLDEN=write` is set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "golden"


def check_golden(name: str, documents: list[Any]) -> None:
    """Compare documents with `tests/golden/<name>.yaml`."""
    path = FOLDER / f"{name}.yaml"
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
    if os.environ.get("STOKER_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; `make golden` rewrites it"
