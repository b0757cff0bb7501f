"""Compiles every specialisation of the catalogue ahead of time: `python -m …kernels.gpu.compiler`.

Knows Triton's compiler and NVIDIA's tools beside it; needs no GPU. Writes what `cache` describes.
Run by `stoker kernels build` and by the GPU image's build, never while serving.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stoker_runtime.kernels.gpu.cache import COMPILED, Entry, write_compiled
from stoker_runtime.kernels.gpu.catalogue import FILES, specialisations_of
from stoker_runtime.kernels.gpu.registry import ARCHS, Arch, Specialisation

Made = tuple[Entry, bytes]
"""What is known of a compiled kernel, and its machine code."""
_PARAM = re.compile(r"^\s*\.param \.(\w+)", re.MULTILINE)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_DIVISIBLE = [["tt.divisibility", 16]]
_ENVIRONMENT = {"TRITON_INTERPRET": "0", "TRITON_DISABLE_LINE_INFO": "1"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to compile, and where to."""

    archs: Sequence[str]
    folder: Path
    num_processes: int
    files: Sequence[str] = FILES
    cache: Path | None = None
    """Where Triton keeps what it compiled, by content: a build that was cut off goes on there."""


def build(order: Order, tell: Callable[[int, int], None]) -> dict[str, list[Entry]]:
    """Compile for each generation into the folder; `tell` hears how many of how many are done.

    The result says what was made, by generation.
    """
    jobs = [
        (arch, file, one.key)
        for arch in order.archs
        for file in order.files
        for one in specialisations_of(file, ARCHS[arch])
    ]
    made: dict[str, list[Made]] = {arch: [] for arch in order.archs}
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_pool(order.num_processes, order.cache or Path(scratch)) as pool,
    ):
        for count, one in enumerate(pool.map(_compile_job, jobs), 1):
            made[jobs[count - 1][0]].append(one)
            tell(count, len(jobs))
    return {arch: write_compiled(order.folder, arch, several) for arch, several in made.items()}


def find_cache() -> Path:
    """The user's own, for `Order.cache`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "stoker/kernels"


def open_pool(num_processes: int, cache: Path) -> ProcessPoolExecutor:
    """Processes that may call `compile_one`; what they compile is kept in the cache."""
    return ProcessPoolExecutor(num_processes, get_context("spawn"), _enter, (str(cache),))


def _enter(cache: str) -> None:
    os.environ.update(_ENVIRONMENT, TRITON_CACHE_DIR=cache)


def _compile_job(job: tuple[str, str, str]) -> Made:
    arch, file, key = ARCHS[job[0]], job[1], job[2]
    return compile_one(arch, next(one for one in specialisations_of(file, arch) if one.key == key))


def compile_one(arch: Arch, one: Specialisation) -> Made:
    """Compile one specialisation for a generation of GPUs."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"stoker_runtime.kernels.gpu.device.{one.kernel.module}")
    function = getattr(module, one.kernel.function)
    places = {name: place for place, name in enumerate(function.arg_names)}
    constants = dict(one.constants)
    types = {**one.signature, **dict.fromkeys(constants, "constexpr")}
    attributes = {
        (places[argument.name],): _DIVISIBLE
        for argument in one.kernel.arguments
        if argument.divisor == 16
    }
    source = ASTSource(function, {name: types[name] for name in places}, constants, attributes)
    options = {"num_warps": one.num_warps, "num_stages": one.num_stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", arch.capability, 32), options=options)
    return _describe(one, made), made.asm["cubin"]


def _describe(one: Specialisation, made: Any) -> Entry:
    """`made` is Triton's `CompiledKernel`; parameters are read from what it compiled."""
    head = made.asm["ptx"].partition(".entry")[2].partition("{")[0]
    params = tuple(_PARAM.findall(head))
    assert made.metadata.global_scratch_size == 0, f"{one.key} wants scratch memory"
    assert len(params) >= len(one.signature), f"{one.key} has other parameters: {params}"
    num_registers, stack_bytes = _measure(made.asm["cubin"])
    return Entry(
        key=one.key,
        symbol=made.metadata.name,
        params=params,
        num_threads=32 * one.num_warps,
        shared_bytes=made.metadata.shared,
        num_registers=num_registers,
        stack_bytes=stack_bytes,
    )


def _measure(code: bytes) -> tuple[int, int]:
    """Registers and bytes of stack that a thread takes, as NVIDIA's own tool says."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = _USAGE.search(said)
    assert found is not None, f"cuobjdump says nothing of registers: {said}"
    return int(found[1]), int(found[2])


def main(archs: str) -> None:
    """Compile where the runtime looks; name what registers did not suffice for, which still runs:
    tests say where that may be."""
    order = Order(archs.split(","), COMPILED, len(os.sched_getaffinity(0)))
    made = build(order, lambda done, total: print(f"kernels: {done} of {total}", flush=True))
    spilled = [one.key for entries in made.values() for one in entries if one.stack_bytes]
    print(f"kernels: {sum(map(len, made.values()))} in {COMPILED}, spilled: {spilled or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1])
