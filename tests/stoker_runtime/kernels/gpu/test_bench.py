"""The bench that waits for a GPU goes its whole way without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[4] / "bench/gpu"


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "main.py"), "--dry-run", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)  # two processes that import torch and Triton
def test_a_part_that_is_done_is_not_measured_again(tmp_path: Path) -> None:
    parts = ("--parts", "peaks,products", "--folder", str(tmp_path))
    first = run(*parts)
    assert first.returncode == 0, first.stderr
    kept = tmp_path / "dry/products.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert lines[-1] == {"done": True}
    assert {one["goal"] for one in lines[:-1]} == {None, 1.5, 2.5}
    assert "| 1 × 128 → 48, int4, times bf16 |" in first.stdout
    before = kept.stat().st_mtime_ns
    assert run(*parts).stdout == first.stdout
    assert kept.stat().st_mtime_ns == before


def test_goals_are_reached_from_either_side() -> None:
    from figures import Figure, tabulate

    fast, slow = Figure("a", 3.0, "", 2.0), Figure("b", 4.0, "s", 2.0, wants_less=True)
    assert (fast.ratio, slow.ratio, Figure("c", 1.0, "").ratio) == (1.5, 0.5, None)
    assert tabulate([fast, slow]).splitlines()[2:] == [
        "| a | 3  | ≥ 2 | 1.50 |",
        "| b | 4 s | ≤ 2 | 0.50 |",
    ]


def test_what_a_part_that_was_cut_off_found_is_shown_and_measured_again(tmp_path: Path) -> None:
    from figures import Figure, Journal

    journal = Journal(tmp_path / "results")
    journal.begin("peaks")
    journal.add("peaks", Figure("copy", 2.0, "TB/s"))
    assert journal.read("peaks") == ([Figure("copy", 2.0, "TB/s")], False)
    assert journal.find("peaks", "copy") == 2.0
    assert journal.find("others", "copy") == 0.0
    journal.begin("peaks")
    assert journal.read("peaks") == ([], False)


def test_what_is_missing_on_a_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import main

    monkeypatch.setitem(main.PARTS, "odd", main.Part("odd", "measure", 1, ("no_such_package",)))
    options = main.parse(["--dry-run"])
    assert "no_such_package missing here" in main.supervise("odd", [], options)


def test_candidates_that_spill_are_left_out() -> None:
    import tune

    from stoker_runtime.kernels.gpu.cache import Entry
    from stoker_runtime.kernels.gpu.registry import ARCHS
    from stoker_runtime.kernels.gpu.tiles import Shape, read_table

    arch = ARCHS["sm_90"]
    good = Entry("a", "kernel", (), 128, 40_000, 128, 0)
    assert tune.fits(arch, good)
    assert not tune.fits(arch, Entry("a", "kernel", (), 128, 40_000, 128, 8))
    assert not tune.fits(arch, Entry("a", "kernel", (), 128, 300_000, 128, 0))
    small, large = Shape(16, 32, 4, 2), Shape(16, 128, 4, 2)
    assert tune.estimate(arch, large, good) > tune.estimate(arch, small, good)
    table = dict(read_table("sm_90"))
    listed = tune.list_candidates("sm_90", "w4a16/4/16")
    assert listed[0].shape == table["w4a16/4/16"]
    assert len({one.shape for one in listed}) == len(listed) > 10
    uses = listed[1].find()
    assert {file for file, _ in uses} == {"w4a16"}
    assert len(uses) == 6
    assert read_table("sm_90") == table
