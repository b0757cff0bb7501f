"""Compiles `native.cpp` beside itself, once per set of instructions: `python -m …kernels.build`.

Knows compilers and what the processor can do; does not know torch or what the library computes.
Run by `make setup` and by the image's build; without a compiler the runtime computes with torch.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_SOURCE = Path(__file__).with_name("native.cpp")
_COMPILERS = ("g++", "c++", "clang++")
_FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast"),
    *("-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-Wno-psabi"),
)
_LEVELS = {
    "x86_64": {
        "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
        "x86-64-v3": {"avx2", "fma", "f16c", "bmi2"},
    },
    "aarch64": {"armv8-a": {"asimd"}},
}
"""What `-march` asks of the processor, the widest vectors first."""


def library_path(level: str) -> Path:
    """Where the library for `-march=level` lies."""
    return _SOURCE.with_name(f"native-{level}.so")


def pick_library(flags: Iterable[str], machine: str) -> Path | None:
    """The best library there is for a processor with these flags (of `/proc/cpuinfo`)."""
    has = set(flags)
    paths = (
        library_path(level) for level, needs in _LEVELS.get(machine, {}).items() if needs <= has
    )
    return next((path for path in paths if path.exists()), None)


def build(machine: str) -> list[Path]:
    """Compile for every level of this kind of machine that is missing or older than the source."""
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return []
    newest = max(file.stat().st_mtime for file in _SOURCE.parent.glob("*pp"))
    built = []
    for level in _LEVELS.get(machine, {}):
        path = library_path(level)
        if not path.exists() or path.stat().st_mtime < newest:
            partial = path.with_suffix(".partial")
            command = [compiler, *_FLAGS, f"-march={level}", "-o", str(partial), str(_SOURCE)]
            subprocess.run(command, check=True)
            partial.rename(path)
        built.append(path)
    return built


if __name__ == "__main__":
    paths = build(platform.machine())
    print(f"kernels: {', '.join(path.name for path in paths) or 'none: no compiler'}")
    sys.exit(0)
