"""The API reference: up to date, complete, and readable as Markdown."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker_api.conditions import ConditionType, Reason
from stoker_api.reference import FILE, main, render_reference
from stoker_api.schema import structural_schema
from stoker_api.v1alpha1 import LLMDeployment, WarmPool

PAGE = render_reference()


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, part in schema.get("properties", {}).items():
        yield path, name
        yield from walk(part, f"{path}.{name}")
        yield from walk(part.get("items", {}), f"{path}.{name}[]")


def find_row(chapter: str, section: str, field: str) -> str:
    """The table row of a field where it belongs, else nothing."""
    tables = PAGE.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    table = tables.partition(f"\n### `{section}`\n")[2].partition("\n### ")[0]
    found = re.search(rf"^\| `{field}`.*\|$", table, re.MULTILINE)
    return found[0] if found else ""


def test_the_file_is_what_the_models_make() -> None:
    assert (Path(__file__).parents[2] / FILE).read_text() == PAGE, "run `make crds`"


def test_it_is_written_into_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main()
    assert (tmp_path / FILE).read_text() == PAGE


@pytest.mark.parametrize("model", [LLMDeployment, WarmPool], ids=lambda model: model.__name__)
def test_every_field_has_a_row_with_its_meaning(model: type[LLMDeployment | WarmPool]) -> None:
    properties = structural_schema(model)["properties"]
    for part in ("spec", "status"):
        for section, field in walk(properties[part], part):
            row = find_row(model.__name__, section, field)
            assert row, f"{section}.{field}"
            assert row.count(" | ") >= 3
            assert row.endswith(". |")


def test_every_condition_and_reason_has_its_meaning() -> None:
    for kind in ConditionType:
        assert f"### `{kind}`\n\n{kind.meaning}" in PAGE
    for reason in Reason:
        assert f"| `{reason}` | {reason.meaning} |" in PAGE


def test_types_limits_and_defaults_are_said() -> None:
    row = find_row("LLMDeployment", "spec.scaling", "maxReplicas")
    assert row.startswith("| `maxReplicas` | integer, 1 to 1000 | `10` | ")
    row = find_row("LLMDeployment", "spec.model", "source")
    assert row.startswith("| `source` (required) | text |  | ")
    row = find_row("LLMDeployment", "spec.engine", "kvCacheDtype")
    assert r"`Auto` \| `Int8` \| `FP8` | `Auto`" in row
    assert "| quantity |" in find_row("WarmPool", "spec", "hostMemory")
    assert "| list of text |" in find_row("WarmPool", "spec", "preload")


def test_a_reported_field_has_no_default() -> None:
    row = find_row("LLMDeployment", "status", "replicas")
    assert row.startswith("| `replicas` | integer |  | ")
