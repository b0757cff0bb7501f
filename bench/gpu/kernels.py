"""The kernels of this card, compiled ahead; then their tests, on it.

Knows the compiler and where the tests are; does not know what either does.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from stand import Stand

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.gpu.cache import COMPILED, Entry, read_compiled
from stoker_runtime.kernels.gpu.catalogue import FILES

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests/stoker_runtime/kernels/gpu"
_SAID = re.compile(r"(\d+) (passed|failed|error)")


def build(stand: Stand) -> Iterator[Figure]:
    """The part `kernels`: take those that were carried here, or compile; a dry run one file."""
    try:
        made = [] if stand.is_dry else list(read_compiled(COMPILED, stand.arch).entries.values())
    except ConfigInvalid:
        made = []
    made = made or _compile(stand)
    yield Figure("kernels compiled", len(made), "")
    yield Figure("kernels whose registers do not suffice", sum(e.stack_bytes > 0 for e in made), "")


def _compile(stand: Stand) -> list[Entry]:
    from stoker_runtime.kernels.gpu.compiler import Order, build, find_cache

    folder = Path(tempfile.mkdtemp()) if stand.is_dry else COMPILED
    files = ("rows",) if stand.is_dry else FILES
    order = Order([stand.arch], folder, len(os.sched_getaffinity(0)), files, find_cache())
    return build(order, lambda done, total: None)[stand.arch]


def check(stand: Stand) -> Iterator[Figure]:
    """The part `checks`: the tests of all kernels as they are, beside their twins."""
    interpreted = "1" if stand.is_dry else "0"
    files = (TESTS / "test_rows.py", TESTS / "test_adjust.py") if stand.is_dry else (TESTS,)
    paths = os.pathsep.join(str(ROOT / name) for name in ("runtime", "tests"))
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-c", os.devnull),
        *(f"--rootdir={ROOT}", "-p", "no:cacheprovider", "--tb=short", *map(str, files)),
        f"--ignore={TESTS / 'test_bench.py'}",
    ]
    environment = os.environ | {"TRITON_INTERPRET": interpreted, "PYTHONPATH": paths}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    counts = {word: int(number) for number, word in _SAID.findall(said.stdout)}
    wrong = counts.get("failed", 0) + counts.get("error", 0)
    if wrong or not counts.get("passed"):
        print(said.stdout[-4000:], said.stderr[-1000:], flush=True)
    yield Figure("tests of kernels passed", counts.get("passed", 0), "")
    yield Figure("tests of kernels failed", wrong if counts else 1, "")
