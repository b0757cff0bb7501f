"""What the GPU path does on the card of this machine: right first, then fast. `make bench-gpu`.

Knows the order of things and how to show them. Needs no network and less than ten minutes; prints
markdown for `runtime/README.md`. `--dry-run` needs no GPU: a file of kernels is compiled, checks
run in Triton's interpreter with small shapes, what is left out is named. Where nothing can be
installed: `PYTHONPATH=runtime:tests:bench/runtime python3 bench/gpu/main.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

STARTED = time.monotonic()
NEEDS_GPU = ("peaks", "products", "engines", "peers")


def main(args: Sequence[str]) -> int:
    """Run what this machine can; the exit code says whether every kernel was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="without a GPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="no engine starts later")
    parser.add_argument("--models", default="0.6B,1.7B,8B")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-gpu")
    options = parser.parse_args(args)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    if not options.dry_run and not torch.cuda.is_available():
        print("there is no NVIDIA GPU here; --dry-run checks what can be checked without one")
        return 2
    device = torch.device("cpu" if options.dry_run else "cuda")
    build_kernels(device, is_dry=options.dry_run)
    wrong = check(device)
    if options.dry_run or wrong:
        print(f"\nleft out: {', '.join(NEEDS_GPU)}")
        return 1 if wrong else 0
    measure(options)
    return 0


def build_kernels(device: object, *, is_dry: bool) -> None:
    """Compile ahead what the card needs; of a dry run only a file, to see that it can be done."""
    import torch

    from stoker_runtime.kernels.gpu.cache import COMPILED
    from stoker_runtime.kernels.gpu.catalogue import FILES
    from stoker_runtime.kernels.gpu.compiler import Order, build

    if is_dry:
        arch, folder, files = "sm_90", Path(tempfile.mkdtemp()), ("rows",)
    else:
        major, minor = torch.cuda.get_device_capability()
        arch, folder, files = f"sm_{major}{minor}", COMPILED, FILES
    processes = len(os.sched_getaffinity(0))
    made = build(Order([arch], folder, processes, files), lambda done, total: None)[arch]
    spilled = [one.key for one in made if one.stack_bytes]
    say("Kernels", [[arch, str(len(made)), str(len(spilled))]], ["for", "compiled", "spilled"])


def check(device: object) -> list[str]:
    """Every kernel beside its twin; the names of those that are wrong."""
    import products

    found = list(products.check(device))  # type: ignore[arg-type]
    wrong = [name for name, error, bound in found if not error <= bound]
    worst = max(found, key=lambda one: one[1] / one[2])
    rows = [[str(len(found)), str(len(wrong)), f"{worst[0]}: {worst[1]:.1e} of {worst[2]:.0e}"]]
    say("Products beside their twins", rows, ["checked", "wrong", "worst"])
    for name in wrong:
        print(f"WRONG: {name}")
    return wrong


def measure(options: argparse.Namespace) -> None:
    """Peaks, products, engines, peers, as long as there is time."""
    import products
    import torch
    from stopwatch import measure_peaks

    peaks = measure_peaks()
    card = torch.cuda.get_device_name()
    numbers = [f"{peaks.copied_bytes_per_s / 1e12:.2f}", f"{peaks.flops_per_s / 1e12:.0f}"]
    say("Peaks", [[card, *numbers]], ["card", "copy TB/s", "bf16 TFLOP/s"])
    titles = ["product", "rows", "stored as", "µs", "times bf16", "of copy bandwidth"]
    say("Products", products.measure(peaks), titles)
    torch.cuda.empty_cache()
    measure_engines(options, peaks.copied_bytes_per_s)
    for peer in ("vllm", "sglang"):
        if importlib.util.find_spec(peer) is None:
            print(f"\n{peer} is not installed: not compared")


def measure_engines(options: argparse.Namespace, copied_bytes_per_s: float) -> None:
    """Each model in engine processes of its own; what can't run is named and the rest goes on."""
    try:
        import engines
    except ModuleNotFoundError as error:
        print(f"\nengines left out: {error.name} is missing")
        return
    titles = ["model", "stored as", "start to each phase, s", "tokens/s", "1 stream, of the limit"]
    for name in options.models.split(","):
        if time.monotonic() - STARTED > 60 * options.minutes:
            print(f"\nno time left for {name}")
            continue
        try:
            rows = engines.measure(options.folder, [name], copied_bytes_per_s)
            say(f"Engine, {name}", rows, titles)
        except SystemExit as error:  # of an engine process that ended
            print(f"\n{name}: {error}")


def say(title: str, rows: Iterable[list[str]], titles: list[str]) -> None:
    """A markdown table, each row as soon as it is known."""
    print(f"\n### {title} ({time.monotonic() - STARTED:.0f} s)\n")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
