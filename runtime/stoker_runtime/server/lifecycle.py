"""Where this pod stands: starting, loading, ready, draining or failed, and since when.

Knows the phases, what each means for `/health`, `/ready` and new requests, and who is told; does
not know how announcements travel or how the engine is asked to stop. Changed by the engine's
messages, by the loader of the tokenizer, and by SIGTERM.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from stoker_runtime.server import refusal
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.wire import Failed, Loaded, Phase

log = logging.getLogger(__name__)

PodPhase = Literal["Starting", "Loading", "Ready", "Draining", "Failed"]
HEARTBEAT_LIMIT_S = 30.0
"""A ready engine that was silent for longer hangs; it beats once a second."""


class Lifecycle:
    """The pod's phase; `changed` is called after every change."""

    def __init__(
        self,
        container_at: float,
        describe_exit: Callable[[], str],
        termination_log: Path | None = None,
    ) -> None:
        """`container_at`: unix seconds of our start; `describe_exit`: how the engine ended."""
        self.phase: PodPhase = "Starting"
        self.reason = ""
        self.message = ""
        self.ends: dict[str, float] = {"container": container_at}
        """Unix seconds at which each phase of the start ended."""
        self.loaded: Loaded | None = None
        self.changed: Callable[[], None] = lambda: None
        self._describe_exit = describe_exit
        self._termination_log = termination_log
        self._text_ready = False
        self._engine_lost = False
        self._beat_at: float | None = None

    @property
    def slots(self) -> int:
        """Sequences that run at once; 0 before that is known."""
        return self.loaded.slots if self.loaded else 0

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the engine last said that it is alive."""
        return 0.0 if self._beat_at is None else time.monotonic() - self._beat_at

    @property
    def healthy(self) -> bool:
        """False asks for a restart: the engine died or hangs. A broken model is no reason."""
        if self._engine_lost:
            return False
        beating = self._beat_at is None or self.heartbeat_age_s <= HEARTBEAT_LIMIT_S
        return beating or self.phase not in ("Ready", "Draining")

    @property
    def phase_seconds(self) -> dict[str, float]:
        """How long each phase of the start took."""
        instants = list(self.ends.items())
        return {
            name: round(end - begin, 6) for (_, begin), (name, end) in itertools.pairwise(instants)
        }

    def refuse_work(self) -> Refusal | None:
        """Why a request can't be taken now, if it can't."""
        match self.phase:
            case "Ready":
                return None
            case "Draining":
                return refusal.refused("draining", "This server is going away; ask again.")
            case "Failed":
                return refusal.refused("loading", f"{self.reason}: {self.message}", 30)
            case _:
                return refusal.refused("loading", "The model is being loaded; ask again.")

    def drain(self) -> None:
        """Take no new work from now on."""
        if self.phase != "Draining":
            self._enter("Draining")

    def text_ready(self) -> None:
        """Tokenizer and chat template are loaded."""
        self._text_ready = True
        self._check_ready()

    # What the engine says.

    def on_phase(self, message: Phase) -> None:
        """A phase of the start ended."""
        self.ends[message.name] = message.at
        if self.phase == "Starting":
            self._enter("Loading")
        else:
            self.changed()

    def on_loaded(self, message: Loaded) -> None:
        """The model made its first token."""
        self.loaded = message
        self._check_ready()

    def on_failed(self, message: Failed) -> None:
        """The model can't be served: stay up and say why."""
        if self.phase in ("Failed", "Draining"):
            return
        self.reason, self.message = message.reason, message.message
        log.error("%s: %s", message.reason, message.message)
        self._write_termination_log()
        self._enter("Failed")

    def on_heartbeat(self) -> None:
        """The engine's loop is alive."""
        self._beat_at = time.monotonic()

    def on_lost(self) -> None:
        """The engine process is gone. Unless it said why, that is a crash."""
        if self.phase in ("Failed", "Draining"):
            return
        self._engine_lost = True
        message = f"the engine process {self._describe_exit()}; the container's log says more"
        self.on_failed(Failed("EngineCrashed", message))

    # From here on: ours.

    def _check_ready(self) -> None:
        if self.loaded and self._text_ready and self.phase in ("Starting", "Loading"):
            self._enter("Ready")

    def _enter(self, phase: PodPhase) -> None:
        self.phase = phase
        log.info("phase %s", phase)
        self.changed()

    def _write_termination_log(self) -> None:
        """Kubernetes shows this text when the container ends."""
        if self._termination_log is None:
            return
        try:
            self._termination_log.write_text(f"{self.reason}: {self.message}", encoding="utf-8")
        except OSError as error:
            log.warning("%s can't be written: %s", self._termination_log, error.strerror)
