"""The parent process: forks the workers, restarts those that crash or hang, passes SIGTERM on.

Knows processes and signals only. It has no event loop and no threads, so forking is safe; the
workers share what it imported. When the parent dies, workers read the end of a pipe and drain.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from stoker_gateway.pulse import Pulses

log = logging.getLogger(__name__)

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STABLE_S = 30.0
"""A worker that ran for so long may be restarted at once."""

RunWorker = Callable[[int, int, Callable[[], None]], None]
"""Called in the child with the worker's index, a descriptor that ends when the parent does, and
what to call once a second as a sign of life."""


class Supervisor:
    """A fixed number of workers."""

    def __init__(self, num_workers: int, run_worker: RunWorker, hung_after_s: float) -> None:
        self._num_workers = num_workers
        self._hung_after_s = hung_after_s
        self._pulses = Pulses(num_workers)
        self._run_worker = run_worker
        self._workers: dict[int, int] = {}
        self._started_at: dict[int, float] = {}
        self._pauses_s: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._stopping = False
        self._exit_code = 0
        self._alive = os.pipe()

    def run(self) -> int:
        """Until SIGTERM and the end of all workers; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for index in range(self._num_workers):
            self._start(index)
        while self._workers or (self._due and not self._stopping):
            self._wait()
            self._reap()
            self._kill_hung()
            self._start_due()
        return self._exit_code

    def _wait(self) -> None:
        """Until a signal, the next start that is due, or the next look at the pulses."""
        next_start_s = min(self._due.values(), default=math.inf) - time.monotonic()
        timeout_s = max(min(next_start_s, self._hung_after_s / 2), 0)
        said = signal.sigtimedwait(SIGNALS, timeout_s)
        number = said.si_signo if said else None
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._due.clear()
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)

    def _kill_hung(self) -> None:
        """A loop that does not turn answers nobody, and never will."""
        for pid, index in self._workers.items():
            if (silent_s := self._pulses.silent_s(index)) > self._hung_after_s:
                log.error("worker %d (pid %d) hangs since %.0f s, killing it", index, pid, silent_s)
                os.kill(pid, signal.SIGKILL)
                self._pulses.beat(index)

    def _start(self, index: int) -> None:
        self._pulses.beat(index)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._child(index)
        self._workers[pid] = index
        self._started_at[index] = time.monotonic()

    def _child(self, index: int) -> None:
        """Never returns: nothing of the parent's stack may run twice."""
        code = 1
        try:
            os.close(self._alive[1])
            self._run_with_signals(index)
            code = 0
        except BaseException:
            log.exception("worker %d ended", index)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _run_with_signals(self, index: int) -> None:
        """Signals stay blocked until the event loop handles them: none is lost in between."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._run_worker(index, self._alive[0], partial(self._pulses.beat, index))

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        index = self._workers.pop(pid, None)
        if index is None:
            return
        if self._stopping:
            self._exit_code = self._exit_code or (1 if code else 0)
            return
        ran_s = time.monotonic() - self._started_at[index]
        before_s = FIRST_PAUSE_S if ran_s > STABLE_S else self._pauses_s.get(index, FIRST_PAUSE_S)
        log.error("worker %d (pid %d) ended with %d, restarting it", index, pid, code)
        self._due[index] = time.monotonic() + before_s
        self._pauses_s[index] = min(before_s * 2, LONGEST_PAUSE_S)

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, at in self._due.items() if at <= now]:
            del self._due[index]
            self._start(index)
