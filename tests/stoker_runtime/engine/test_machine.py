"""Quotas and limits are read from files like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stoker_runtime.engine.machine import Machine, observe_machine
from stoker_runtime.parallel.share import Share


def make_root(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


V1 = "sys/fs/cgroup/cpu/cpu.cfs_"


@pytest.mark.parametrize(
    ("files", "num_cpus"),
    [
        pytest.param({}, 8, id="no cgroup"),
        pytest.param({"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8, id="no quota"),
        pytest.param({"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4, id="four"),
        pytest.param({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2, id="two and a half"),
        pytest.param({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1, id="half of one"),
        pytest.param({"sys/fs/cgroup/cpu.max": "6400000 100000\n"}, 8, id="more than there are"),
        pytest.param(
            {f"{V1}quota_us": "300000\n", f"{V1}period_us": "100000\n"}, 3, id="cgroup v1"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/user.slice/mine\n",
                "sys/fs/cgroup/user.slice/mine/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "500000 100000\n",
                "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
            },
            5,
            id="a group above is tighter",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/a\n0::/\n",
                f"{V1}quota_us": "700000\n",
                f"{V1}period_us": "100000\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
            },
            2,
            id="cgroup v1, a group of its own",
        ),
        pytest.param({"proc/self/cgroup": "nonsense\n0::/../..\n"}, 8, id="odd groups"),
        pytest.param({"sys/fs/cgroup/cpu.max": "100000 0\n"}, 8, id="no period"),
        pytest.param(
            {f"{V1}quota_us": "-1\n", f"{V1}period_us": "100000\n"}, 8, id="cgroup v1, no quota"
        ),
    ],
)
def test_processors_follow_the_quota(tmp_path: Path, files: dict[str, str], num_cpus: int) -> None:
    assert observe_machine(make_root(tmp_path, files)).num_cpus == num_cpus


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    files = {topology.format(cpu): f"{cpu % 4},{cpu % 4 + 4}\n" for cpu in range(8)}
    assert observe_machine(make_root(tmp_path, files)).num_cpus == 4
    quota = {"sys/fs/cgroup/cpu.max": "300000 100000\n"}
    assert observe_machine(make_root(tmp_path, quota)).num_cpus == 3


MEMINFO = {"proc/meminfo": "MemTotal: 900 kB\nMemAvailable:       800 kB\n"}


@pytest.mark.parametrize(
    ("files", "available"),
    [
        pytest.param({}, 800 * 1024, id="no limit"),
        pytest.param({"sys/fs/cgroup/memory.max": "max\n"}, 800 * 1024, id="limit is max"),
        pytest.param(
            {
                "sys/fs/cgroup/memory.max": "500000\n",
                "sys/fs/cgroup/memory.stat": "anon 100000\nfile 300000\n",
            },
            400000,
            id="limit less what is held, page cache counts as free",
        ),
        pytest.param({"sys/fs/cgroup/memory.max": "999999999\n"}, 800 * 1024, id="limit too high"),
        pytest.param(
            {
                "sys/fs/cgroup/memory.max": "50000\n",
                "sys/fs/cgroup/memory.stat": "anon 100000\n",
            },
            0,
            id="over the limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "700000\n",
                "sys/fs/cgroup/a/memory.max": "600000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 400000\n",
            },
            200000,
            id="a group above is tighter",
        ),
        pytest.param(
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "500000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_rss 200000\n",
            },
            300000,
            id="cgroup v1",
        ),
    ],
)
def test_memory_follows_the_limit(tmp_path: Path, files: dict[str, str], available: int) -> None:
    assert observe_machine(make_root(tmp_path, MEMINFO | files)).available_bytes == available


@pytest.mark.parametrize(
    ("cpuinfo", "has_bf16"),
    [
        ("flags\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t: fpu avx512f\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("", False),
    ],
)
def test_knows_bfloat16_instructions(tmp_path: Path, cpuinfo: str, has_bf16: bool) -> None:
    root = make_root(tmp_path, {"proc/cpuinfo": cpuinfo})
    assert observe_machine(root).has_bf16 is has_bf16


def test_sees_a_gpu_by_its_device_file(tmp_path: Path) -> None:
    assert not observe_machine(tmp_path).has_gpu
    assert observe_machine(make_root(tmp_path, {"dev/nvidiactl": ""})).has_gpu


def test_this_machine_has_something() -> None:
    machine = observe_machine()
    assert machine.num_cpus >= 1
    assert machine.available_bytes > 100 << 20


@pytest.mark.parametrize(
    ("num_cpus", "asked", "ranks", "threads"),
    [(8, 0, 1, 8), (8, 0, 2, 4), (8, 6, 4, 1), (1, 0, 2, 1)],
)
def test_ranks_divide_threads_and_memory(
    num_cpus: int, asked: int, ranks: int, threads: int
) -> None:
    machine = Machine(num_cpus, 1 << 30, has_bf16=False, has_gpu=False).divide(Share(0, ranks))
    assert machine.count_threads(asked) == threads
    assert machine.available_bytes == (1 << 30) // ranks
