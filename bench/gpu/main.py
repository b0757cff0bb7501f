"""What the GPU path does on the card of this machine: right first, then fast. `make bench-gpu`.

Knows the order of the parts and their time; does not know what they do. Each part is a process of
its own, so that one that hangs or breaks the card's context takes no other with it; what it finds
is in a file before it goes on, and a second run goes on where the first was cut off. Needs no
network and less than ten minutes. `--dry-run` goes the same way with small shapes, on a processor.
Where nothing can be installed: `PYTHONPATH=runtime:tests:bench/runtime python3 bench/gpu/main.py`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import Journal, tabulate


@dataclass(frozen=True)
class Part:
    """One process."""

    module: str
    function: str
    seconds: float
    """When it is ended; a dry run may be slow."""
    needs: tuple[str, ...] = ()
    """Packages that may be missing on a machine that was not made for this."""


_ENGINE = ("msgspec", "tokenizers", "safetensors")
PARTS = {
    "kernels": Part("kernels", "build", 150, ("triton",)),
    "checks": Part("kernels", "check", 120, ("pytest", "hypothesis", "numpy")),
    "peaks": Part("stand", "measure", 20),
    "attention": Part("attention", "measure", 40),
    "products": Part("products", "measure", 60),
    "decode": Part("engines", "measure_decode", 80, _ENGINE),
    "starts": Part("engines", "measure_starts", 60, _ENGINE),
    "standbys": Part("engines", "measure_standbys", 60, _ENGINE),
    "mix": Part("engines", "measure_mix", 80, _ENGINE),
    "peers": Part("peers", "measure", 120, (*_ENGINE, "transformers")),
}


def main(args: Sequence[str]) -> int:
    """Run the parts; the exit code says whether all were done and every kernel was right."""
    options = parse(args)
    journal = Journal(options.results)
    if options.part:
        run_part(options, journal)
        return 0
    undone = []
    for name in options.parts.split(","):
        problem = "" if journal.read(name)[1] else supervise(name, args, options)
        if problem:
            undone.append(f"{name}: {problem}")
        found = journal.read(name)[0]
        if found:
            print(f"\n### {name}\n\n{tabulate(found)}", flush=True)
    for line in undone:
        print(f"left out, {line}")
    wrong = journal.find("checks", "tests of kernels failed")
    return 1 if undone or wrong else 0


def parse(args: Sequence[str]) -> argparse.Namespace:
    """The options of a run, or of one part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="small shapes, without a GPU")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in this order")
    parser.add_argument("--part", choices=PARTS, help="only this one, here and now")
    scratch = Path(tempfile.gettempdir()) / "bench-gpu"
    parser.add_argument("--folder", type=Path, default=scratch, help="for checkpoints")
    parser.add_argument("--results", type=Path, help="for figures; default: in the folder")
    options = parser.parse_args(args)
    options.deadline = time.monotonic() + 60 * options.minutes
    run = "dry" if options.dry_run else "results"
    options.results = options.results or options.folder / run
    return options


def supervise(name: str, args: Sequence[str], options: argparse.Namespace) -> str:
    """Run a part as a process, as long as it may; what went wrong, if anything."""
    part = PARTS[name]
    if missing := [one for one in part.needs if importlib.util.find_spec(one) is None]:
        return f"{', '.join(missing)} missing here; carry wheels and put them into PYTHONPATH"
    seconds = options.deadline - time.monotonic()
    if not options.dry_run:
        seconds = min(seconds, part.seconds)
    if seconds <= 0:
        return "no time left"
    command = [sys.executable, str(Path(__file__)), *args, "--part", name]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"ended after {seconds:.0f} s"
    finally:
        end(process.pid)
    return f"exit code {code}" if code else ""


def end(group: int) -> None:
    """Whoever is left of a part."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def run_part(options: argparse.Namespace, journal: Journal) -> None:
    """Measure one part and keep each figure as soon as it is known."""
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    from stand import Stand

    stand = Stand(options.dry_run, journal, options.folder)
    part = PARTS[options.part]
    journal.begin(options.part)
    for figure in getattr(importlib.import_module(part.module), part.function)(stand):
        journal.add(options.part, figure)
    journal.finish(options.part)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
