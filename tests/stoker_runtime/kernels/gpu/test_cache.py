"""Compiled kernels come back from their files as they were written, or are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.gpu.cache import Entry, read_compiled, write_compiled


def make_entry(key: str) -> Entry:
    return Entry(key, "kernel", ("u64", "u32", "f32", "s64"), 128, 1024, 40, 0)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    made = [(make_entry("a"), b"first"), (make_entry("b"), b"second")]
    placed = write_compiled(tmp_path, "sm_90", made)
    compiled = read_compiled(tmp_path, "sm_90")
    assert list(compiled.entries.values()) == placed
    assert [compiled.code_of(one) for one in placed] == [b"first", b"second"]


def test_parameters_have_the_layout_of_c() -> None:
    assert make_entry("a").layout == "Qifq"


@pytest.mark.parametrize("broken", ["absent", "no json", "other sources", "no code"])
def test_what_is_not_whole_is_refused_with_the_command(tmp_path: Path, broken: str) -> None:
    write_compiled(tmp_path, "sm_90", [(make_entry("a"), b"code")])
    index = tmp_path / "sm_90.json"
    match broken:
        case "absent":
            index.unlink()
        case "no json":
            index.write_text("{")
        case "other sources":
            index.write_text(json.dumps(json.loads(index.read_text()) | {"sources": "older"}))
        case "no code":
            index.with_suffix(".bin").unlink()
    with pytest.raises(ConfigInvalid, match=r"sm_90.*stoker kernels build --arch sm_90"):
        read_compiled(tmp_path, "sm_90")
