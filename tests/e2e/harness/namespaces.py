"""The box a local node lives in: network, mount and process namespaces held by one process.

When that process dies the kernel ends every other process of the node, and with them go its
mounts and its network; so a crash of the harness leaves at most this one process, which is found
by its path. It knows nothing of Kubernetes. Called by `local.py`.
"""

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

from e2e.harness.process import find, start, wait_until

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CGROUPS = Path("/sys/fs/cgroup")
_SCRIPT = """
set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$1/log" /var/log
exec "$1/node-init"
"""


def boot(folder: Path, init: Path) -> int:
    """Start the first process of new namespaces; the program is copied into `folder`."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    shutil.copy2(init, folder / "node-init")
    flags = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--propagation", "slave"]
    command = ["unshare", *flags, "sh", "-c", _SCRIPT, "boot", str(folder)]
    daemon = start("unshare", command, folder / "log" / "boot.log")
    wait_until(lambda: bool(find_init(folder)), "the node's first process", 20, (daemon,))
    return find_init(folder)


def find_init(folder: Path) -> int:
    """Process id of the node's first process, 0 when it does not run."""
    return next(iter(find(folder / "node-init")), 0)


def enter(init_pid: int) -> list[str]:
    """Command prefix that runs a program inside, with a clean environment."""
    inside = ["nsenter", "--target", str(init_pid), "--net", "--mount", "--pid", "--wd=/"]
    return [*inside, "env", "-i", f"PATH={_PATH}", "HOME=/root"]


def runs_inside(init_pid: int, program: Path) -> bool:
    """True when a process started as `program` shares the node's process namespace."""
    ours = _namespace(init_pid)
    return any(_namespace(pid) == ours for pid in find(program))


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return f"gone {pid}"


def destroy(folder: Path) -> None:
    """End every process of the node; the kernel takes the mounts and the network with them."""
    for pid in find(folder / "node-init"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not find_init(folder), "the end of the node's processes", 30)
    _unmount_leftovers(folder)


def _unmount_leftovers(folder: Path) -> None:
    """Mounts that leaked to the machine's own namespace; there are none unless something broke."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    inside = [point for point in (line.split()[4] for line in lines) if f"{folder}/" in f"{point}/"]
    for point in reversed(inside):
        subprocess.run(["umount", "--lazy", point], check=False)


def make_cgroup(name: str) -> str:
    """Make the cgroup that all pods of a node live under, in each hierarchy; returns its path."""
    if (_CGROUPS / "cgroup.controllers").exists():
        control = _CGROUPS / "cgroup.subtree_control"
        control.write_text("+cpu +cpuset +memory +pids")
        (_CGROUPS / name).mkdir(exist_ok=True)
        return f"/{name}"
    for hierarchy in _hierarchies("cgroup"):
        (hierarchy / name).mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (hierarchy / name / setting).write_text((hierarchy / setting).read_text())
        # The kubelet gives all pods this share at the top; ours are one level further down.
        if (hierarchy / "cpu.shares").exists():
            (hierarchy / name / "cpu.shares").write_text(str(1024 * (os.cpu_count() or 1)))
    return f"/{name}"


def remove_cgroup(name: str) -> None:
    """Remove the node's cgroups; their processes may take a moment to be gone."""
    for hierarchy in _hierarchies("cgroup", "cgroup2"):
        folder = hierarchy / name
        wait_until(partial(_removed, folder), f"the removal of the cgroup {folder}", 30)


def _removed(folder: Path) -> bool:
    """Try to remove a cgroup and those below; False while processes in it are still ending."""
    try:
        for path, _, _ in os.walk(folder, topdown=False):
            os.rmdir(path)
    except OSError:
        return False
    return True


def _hierarchies(*kinds: str) -> list[Path]:
    """Mount points of the machine's cgroup file systems of some kinds."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in kinds]
