"""What this process may use: processors, memory, instructions.

Knows `/proc`, cgroups (v2 and v1) and device files; does not know models. Torch-free; read once by
the engine process at its start. `os.cpu_count()` is not enough: it ignores a container's quota.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from stoker_runtime.parallel.share import WHOLE, Share

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Resources as found."""

    num_cpus: int
    """Whole cores within quota and affinity; at least 1."""
    available_bytes: int
    """Memory that may still be taken, under the cgroup's limit."""
    has_bf16: bool
    """The processor multiplies bfloat16 matrices."""
    has_gpu: bool
    """There is an NVIDIA device file."""
    share: Share = WHOLE
    """Which part of one model this process computes, beside others on the same machine."""

    def divide(self, share: Share) -> Machine:
        """The same machine for one of several processes."""
        return replace(self, share=share, available_bytes=self.available_bytes // share.ranks)

    def count_threads(self, asked: int) -> int:
        """Of one process: so many were asked for in all, or none in particular (0)."""
        return max(1, (asked or self.num_cpus) // self.share.ranks)


def observe_machine(root: Path = Path("/")) -> Machine:
    """Look at the machine; `root` is another folder in tests."""
    return Machine(
        num_cpus=min(_observe_quota(root), _observe_cores(root)),
        available_bytes=_observe_memory(root),
        has_bf16=_observe_bf16(root / "proc/cpuinfo"),
        has_gpu=(root / "dev/nvidiactl").exists(),
    )


def _observe_cores(root: Path) -> int:
    """Cores behind the processors this process may use; two threads of one core count once."""
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    allowed = os.sched_getaffinity(0)
    return len({_read_first(root / siblings.format(cpu)) or str(cpu) for cpu in allowed})


def _observe_quota(root: Path) -> int:
    """A quota of 150 ms per 100 ms gives 1, none gives as many as there can be."""
    quotas = [_read_words(folder / "cpu.max")[:2] for folder in _groups(root, "")]
    for folder in _groups(root, "cpu"):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quotas.append([_read_first(folder / name) for name in names])
    cores = [
        int(quota) // int(period)
        for quota, period in (words for words in quotas if len(words) == 2)
        if quota.isdigit() and period.isdigit() and int(period)
    ]
    return max(1, min(cores, default=sys.maxsize))


def _observe_memory(root: Path) -> int:
    """The tightest cgroup's limit less what its processes hold; page cache counts as free."""
    meminfo = _read_table(root / "proc/meminfo")
    available = meminfo.get("MemAvailable:", 0) * 1024
    for controller, limit_file, held_key in (
        ("", "memory.max", "anon"),
        ("memory", "memory.limit_in_bytes", "total_rss"),
    ):
        for folder in _groups(root, controller):
            limit = _read_first(folder / limit_file)
            if limit.isdigit():
                held = _read_table(folder / "memory.stat").get(held_key, 0)
                available = min(available, int(limit) - held)
    return max(0, available)


def _groups(root: Path, controller: str) -> list[Path]:
    """This process's cgroup and all above it, which limit it too; no controller means version 2.

    In a container the mounted root is the container's own group, and the path is usually `/`.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            own = top / path.strip("/")
            above = [folder for folder in own.parents if folder.is_relative_to(top)]
            return [own, *above]
    return [top]


def _observe_bf16(cpuinfo: Path) -> bool:
    flags = next(
        (line for line in _read_lines(cpuinfo) if line.startswith(("flags", "Features"))), ""
    )
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _read_words(path: Path) -> list[str]:
    return " ".join(_read_lines(path)).split()


def _read_first(path: Path) -> str:
    return next(iter(_read_words(path)), "")


def _read_table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _read_lines(path))
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
