"""Which library a processor gets; the compiler itself runs where there is one."""

from __future__ import annotations

import platform
import shutil

import pytest

from stoker_runtime.kernels import build

V3 = ("avx2", "fma", "f16c", "bmi2")
V4 = (*V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


@pytest.fixture(autouse=True)
def _built() -> None:
    if platform.machine() != "x86_64" or not build.build("x86_64"):
        pytest.skip("needs a compiler on x86-64")


def test_the_widest_vectors_that_the_processor_has_are_taken() -> None:
    assert build.pick_library(V4, "x86_64") == build.library_path("x86-64-v4")
    assert build.pick_library(V3, "x86_64") == build.library_path("x86-64-v3")


def test_older_and_unknown_processors_compute_with_torch() -> None:
    assert build.pick_library(("sse4_2", "avx"), "x86_64") is None
    assert build.pick_library(V4, "riscv64") is None
    assert build.pick_library(V4, "aarch64") is None


def test_a_library_is_compiled_once_for_a_source() -> None:
    before = [path.stat().st_mtime_ns for path in build.build("x86_64")]
    assert [path.stat().st_mtime_ns for path in build.build("x86_64")] == before


def test_without_a_compiler_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert build.build("x86_64") == []
