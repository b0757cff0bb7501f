"""Picks tiles for a generation of GPUs and writes its table: `make bench-gpu`'s slower sister.

Knows candidates, what compiling them says and how to time them; does not know how tables are read.
Of each work's candidates those are left whose registers and shared memory suffice in everything
that is compiled with them. On a card the fastest is taken. With `--dry-run`, without one, it is the
one that a model of occupancy prefers, see `estimate`; that only orders, it promises no speed.

    PYTHONPATH=runtime:tests python3 bench/gpu/tune.py --arch sm_90 [--works decodes,w4a16/4/16]
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from stoker_runtime.kernels.gpu import compiler
from stoker_runtime.kernels.gpu.cache import COMPILED, Compiled, Entry, read_compiled
from stoker_runtime.kernels.gpu.catalogue import FILES, specialisations_of
from stoker_runtime.kernels.gpu.registry import ARCHS, Arch, Specialisation
from stoker_runtime.kernels.gpu.tiles import Shape, read_table, write_table

_REGISTERS, _THREADS, _BLOCKS = 65536, 2048, 32
"""That a multiprocessor has, and blocks that it runs at once."""
_SHARED_RESERVE = 1024
"""Bytes that each block takes besides its own."""
_IN_FLIGHT_BYTES = 48 << 10
"""Loads that keep the memory of a card busy, per multiprocessor: on an H200 4.8 TB/s · 1.3 µs of
latency under load / 132."""
_NOBODYS = Shape(0, 0, 0, 0)
Made = tuple[Entry, bytes]


@dataclass(frozen=True)
class Candidate:
    """A shape for a work."""

    arch: str
    work: str
    shape: Shape

    def find(self) -> list[tuple[str, Specialisation]]:
        """File and specialisation of all that is compiled with it."""
        table = read_table(self.arch)
        kept, found = table[self.work], []
        for shape in (_NOBODYS, self.shape):
            table[self.work] = shape
            listed = [(file, one) for file in FILES for one in list_file(file, self.arch)]
            found.append(listed)
        table[self.work] = kept
        others = {one for _, one in found[0]}
        return [(file, one) for file, one in found[1] if one not in others]


def list_file(file: str, arch: str) -> list[Specialisation]:
    """Everything of a file."""
    return list(specialisations_of(file, ARCHS[arch]))


def list_candidates(arch: str, work: str) -> list[Candidate]:
    """The shape of the table first, then others; rows of a product are part of the work's name
    except for prompts, whose heads share what is loaded."""
    known = read_table(arch)[work]
    rows = (64, 128) if work.startswith("prompts") else (known.block_m,)
    grid = itertools.product(rows, (32, 64, 128, 256), (4, 8), (2, 3, 4))
    shapes = [known, *(Shape(*numbers) for numbers in grid)]
    return [Candidate(arch, work, shape) for shape in dict.fromkeys(shapes)]


def compile_all(jobs: Iterable[tuple[Candidate, str, str]], processes: int) -> list[Made]:
    """Compile jobs of candidate, file and key, by content, as `make kernels` does."""
    with compiler.open_pool(processes, compiler.find_cache()) as pool:
        return list(pool.map(compile_job, jobs))


def compile_job(job: tuple[Candidate, str, str]) -> Made:
    """One specialisation of a candidate."""
    candidate, file, key = job
    read_table(candidate.arch)[candidate.work] = candidate.shape
    one = next(one for one in list_file(file, candidate.arch) if one.key == key)
    return compiler.compile_one(ARCHS[candidate.arch], one)


def fits(arch: Arch, entry: Entry) -> bool:
    """Nothing spills, and a block finds room."""
    return not entry.stack_bytes and entry.shared_bytes <= arch.shared_bytes


def estimate(arch: Arch, shape: Shape, entry: Entry) -> tuple[float, ...]:
    """How promising a candidate is, best first by comparison.

    Blocks that a multiprocessor runs at once, times the shared memory that each loads into, are
    bytes in flight; beyond what keeps memory busy more are no gain, and the larger product, which
    reads less often what others read too, is. Then the one that leaves more registers.
    """
    registers = _REGISTERS // (entry.num_registers * entry.num_threads)
    shared = (arch.shared_bytes + _SHARED_RESERVE) // (entry.shared_bytes + _SHARED_RESERVE)
    resident = min(registers, shared, _THREADS // entry.num_threads, _BLOCKS)
    in_flight = min(resident * entry.shared_bytes, _IN_FLIGHT_BYTES)
    return (in_flight, shape.block_m * shape.block_n, resident, -entry.num_registers)


def pick(
    arch: str, work: str, processes: int, rate: Callable[[Candidate, Made], float] | None
) -> tuple[Candidate, list[Made]]:
    """The best candidate that fits in all that is compiled with it.

    rate: measures one on a card, more is better; None: `estimate` says.
    """
    candidates = [(one, one.find()) for one in list_candidates(arch, work)]
    tried = compile_all(
        [(one, f, s.key) for one, uses in candidates for f, s in uses[:1]], processes
    )
    rated = [
        (rate(one, made) if rate else estimate(ARCHS[arch], one.shape, made[0]), number)
        for number, ((one, _), made) in enumerate(zip(candidates, tried, strict=True))
        if fits(ARCHS[arch], made[0])
    ]
    for _, number in sorted(rated, key=lambda one: (one[0], -one[1]), reverse=True):
        candidate, uses = candidates[number]
        made = compile_all([(candidate, file, one.key) for file, one in uses], processes)
        if all(fits(ARCHS[arch], entry) for entry, _ in made):
            return candidate, made
    raise SystemExit(f"no candidate for {work} fits {arch}")


def add_to(compiled: Compiled, made: Iterable[Made]) -> Compiled:
    """What is compiled, and more."""
    entries, code = dict(compiled.entries), bytearray(compiled.code)
    for entry, cubin in made:
        entries[entry.key] = replace(entry, at=len(code), num_bytes=len(cubin))
        code += cubin
    return Compiled(entries, bytes(code))


def rate_on_card(candidate: Candidate, made: Made) -> float:
    """Works per second on this card, with this candidate in the table and in its memory."""
    import torch
    from works import run_work

    from stoker_runtime.kernels.gpu import driver

    compiled = add_to(read_compiled(COMPILED, candidate.arch), [made])
    functions = driver.Functions(
        compiled, driver.LIBRARY, lambda: torch.cuda.current_stream().cuda_stream
    )
    driver.find_functions = lambda _: functions  # type: ignore[assignment]
    table = read_table(candidate.arch)
    kept, table[candidate.work] = table[candidate.work], candidate.shape
    try:
        return 1 / run_work(candidate.work, torch.device("cuda:0"))
    finally:
        table[candidate.work] = kept


def main(args: Sequence[str]) -> int:
    """Pick for all works that are asked for, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=ARCHS, required=True)
    parser.add_argument("--works", default="", help="beginnings of names, with commas; default all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dry-run", action="store_true", help="without a card")
    parser.add_argument("--show", action="store_true", help="write nothing")
    options = parser.parse_args(args)
    table = dict(read_table(options.arch))
    wanted = tuple(options.works.split(","))
    rate = None if options.dry_run else rate_on_card
    for work in [name for name in table if name.startswith(wanted)]:
        candidate, made = pick(options.arch, work, options.processes, rate)
        most = max(entry.num_registers for entry, _ in made)
        print(f"{work}: {table[work]} → {candidate.shape}, {most} registers", flush=True)
        table[work] = candidate.shape
        if not options.show:
            write_table(options.arch, table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
