"""Starts the engine process and tells how it ended.

Knows the command, the socket pair and exit statuses; does not know the messages. Called first thing
by the API process, so it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

ENGINE_MODULE = ("-m", "stoker_runtime.engine")


class EngineProcess:
    """A running engine and our end of the socket to it."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        """Made by `spawn_engine`."""
        self.pid = pid
        self.sock = sock
        self._status: int | None = None

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so long."""
        give_up_at = time.monotonic() + seconds
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
            elif time.monotonic() >= give_up_at:
                return False
            else:
                time.sleep(0.005)
        return True

    def kill(self) -> None:
        """End it now."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(5.0)

    def describe_exit(self) -> str:
        """How it ended, for people."""
        if not self.wait(0.5):
            return "closed its socket but still runs"
        code = os.waitstatus_to_exitcode(self._status or 0)
        if code == -signal.SIGKILL:
            return "was killed by SIGKILL: most likely out of memory, so give the pod more"
        if code < 0:
            return f"was killed by {_name(-code)}"
        return f"ended with exit code {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time signals have none
        return f"signal {number}"


def spawn_engine(flags: Sequence[str], command: Sequence[str] = ENGINE_MODULE) -> EngineProcess:
    """Start `python <command> --fd N <flags>` in a process group of its own.

    Its own group, so that Ctrl-C in a terminal reaches the API process alone, which drains.
    """
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    argv = [sys.executable, *command, "--fd", str(theirs.fileno()), *flags]
    pid = os.posix_spawn(sys.executable, argv, os.environ, setpgroup=0)
    theirs.close()
    return EngineProcess(pid, ours)
