"""Long-running programs of a cluster: start them, see that they live, wait until they serve.

A started program outlives the harness; it is found again by its command line, never by a remembered
process id that something else may have by then. It does not know which programs there are.
"""

import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.settings import HarnessError

_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that was started and where it logs."""

    name: str
    pid: int
    log: Path

    def check(self) -> None:
        """Raise with the end of the log when the program has ended."""
        try:
            ended = os.waitpid(self.pid, os.WNOHANG) != (0, 0)
        except ChildProcessError:
            ended = not Path(f"/proc/{self.pid}").exists()
        if ended:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise HarnessError(
                f"{self.name} ended; its log {self.log} ends with:\n" + "\n".join(lines)
            )

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the program: politely, then for good."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return
            if _ended_within(self.pid, timeout_s):
                return


def _ended_within(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return True
        except ChildProcessError:
            if not Path(f"/proc/{pid}").exists():
                return True
        time.sleep(0.01)
    return False


def start(name: str, command: list[str], log: Path) -> Daemon:
    """Start a program in its own session, with its output in a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=files, setsid=True)
    return Daemon(name, pid, log)


def find(argv0: Path) -> list[int]:
    """Process ids, oldest first, of processes that were started as exactly this path."""
    wanted = os.fsencode(argv0)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv[0] == wanted:
            found.append(int(folder.name))
    return sorted(found)


def wait_until(
    ready: Callable[[], bool], what: str, timeout_s: float, daemons: tuple[Daemon, ...] = ()
) -> None:
    """Poll until `ready`; raises when one of `daemons` ends or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        for daemon in daemons:
            daemon.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\n  {daemon.name}: {daemon.log}" for daemon in daemons)
            raise HarnessError(f"{what} did not happen within {timeout_s:.0f} s{logs}")
        time.sleep(0.05)


def answers(url: str, ca: Path | None = None) -> bool:
    """True when a GET of `url` answers 200; any failure to connect is False."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
