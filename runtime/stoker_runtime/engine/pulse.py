"""The engine's heartbeat, in a thread of its own.

Knows the link and whether a step runs; does not know what a step does. A process that is stopped or
swapped out sends nothing; one whose step never ends says how long that step has taken. So a slow
step and a dead engine look different.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from stoker_runtime.engine.link import Link
from stoker_runtime.wire import Heartbeat, ToEngine

_PERIOD_S = 1.0


class Pulse:
    """Beats once a second from `start` on, whatever the process does."""

    def __init__(self, link: Link[ToEngine]) -> None:
        self._link = link
        self._step_began_at: float | None = None

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """While a step is computed."""
        self._step_began_at = time.monotonic()
        try:
            yield
        finally:
            self._step_began_at = None

    @property
    def step_s(self) -> float:
        """How long the step that runs has taken; 0 when none runs."""
        began_at = self._step_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def _run(self) -> None:
        while True:
            self._link.send(Heartbeat(time.time(), self.step_s))
            time.sleep(_PERIOD_S)
