"""Where this pod stands: from starting to ready, asleep or without a model, and since when.

Knows the phases, what each means for `/health`, `/ready` and new requests, and who is told; does
not know how announcements travel or how the engine is asked to stop. Changed by the engine's
messages, by the loader of the tokenizer, by orders of the admin port (`switch`) and by SIGTERM.

    Starting → Loading → Ready → Draining                started with a model
    Starting → Standby → Loading → Ready → Draining → Standby → …    a standby: /load, /unload
    Ready → Draining → Asleep → Loading → Ready          /sleep, /wake_up
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stoker_runtime.server import refusal
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.server.vitals import Vitals
from stoker_runtime.wire import Failed, Heartbeat, Loaded, Phase, Resident, Stats

log = logging.getLogger(__name__)

PodPhase = Literal["Starting", "Loading", "Ready", "Draining", "Failed", "Standby", "Asleep"]
_MUST_BEAT: tuple[PodPhase, ...] = ("Ready", "Draining", "Standby", "Asleep")
"""While a model is loaded, the processor and the interpreter may be busy for long: no limit."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When the engine counts as hung."""

    silence_s: float = 30.0
    """It beats once a second."""
    step_s: float = 600.0
    """A step of a large model on few processors takes minutes."""


class Lifecycle:
    """The pod's phase; `changed` is called after every change."""

    def __init__(
        self,
        container_at: float,
        describe_exit: Callable[[], str],
        termination_log: Path | None = None,
        patience: Patience = Patience(),
    ) -> None:
        """`container_at`: unix seconds of our start; `describe_exit`: how the engine ended."""
        self.phase: PodPhase = "Starting"
        self.reason = ""
        self.message = ""
        self.started_at = container_at
        self.ends: dict[str, float] = {"container": container_at}
        """Unix seconds at which each phase ended: of the start, or since the last order came."""
        self.loaded: Loaded | None = None
        self.vitals = Vitals()
        """What the model's engine measures of itself."""
        self.residents: dict[str, Resident] = {}
        """Models to preload, by folder, as far as the engine has told."""
        self.leaving = False
        """SIGTERM came."""
        self.changed: Callable[[], None] = lambda: None
        self.lost: Callable[[], None] = lambda: None
        """Called when the engine is gone and only a new process can help."""
        self._describe_exit = describe_exit
        self._termination_log = termination_log
        self._text_ready = False
        self._engine_lost = False
        self._patience = patience
        self._beat_at: float | None = None
        self._step_s = 0.0

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
        return not self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong with the engine process, if anything is."""
        if self._engine_lost:
            return self.message
        if self.phase not in _MUST_BEAT:
            return ""
        if self.heartbeat_age_s > self._patience.silence_s:
            return f"the engine process was silent for {self.heartbeat_age_s:.0f} s"
        if self._step_s > self._patience.step_s:
            return f"one step of the engine has taken {self._step_s:.0f} s"
        return ""

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
            case "Standby":
                return refusal.refused("loading", "No model is loaded; ask again.")
            case "Asleep":
                return refusal.refused("loading", "The model sleeps; ask again.")
            case _:
                return refusal.refused("loading", "The model is being loaded; ask again.")

    def drain(self) -> None:
        """Take no new work from now on."""
        if self.phase != "Draining":
            self._enter("Draining")

    def leave(self) -> None:
        """SIGTERM: drain, and never come back."""
        self.leaving = True
        self.drain()

    def begin_load(self) -> None:
        """A model moves in or wakes up: the phases are counted anew."""
        self._begin_anew("Loading")

    def fall_asleep(self) -> None:
        """The engine let go of the cache."""
        self._begin_anew("Asleep")

    def stand_by(self) -> None:
        """There is no model any more."""
        self._begin_anew("Standby")

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
        self._beat_at = time.monotonic()  # from now on it has to beat
        self.loaded = message
        self._check_ready()

    def on_failed(self, message: Failed) -> None:
        """The model can't be served: stay up and say why. An engine that served is lost."""
        if self.phase in ("Failed", "Draining"):
            return
        self._engine_lost = self._engine_lost or self.phase in _MUST_BEAT
        self.reason, self.message = message.reason, message.message
        log.error("%s: %s", message.reason, message.message)
        self._write_termination_log()
        self._enter("Failed")
        if self._engine_lost:
            self.lost()

    def on_settled(self) -> None:
        """A standby has imported all that a model needs."""
        self._beat_at = time.monotonic()
        if self.phase in ("Starting", "Loading"):
            self._enter("Standby")

    def on_resident(self, message: Resident) -> None:
        """A model to preload is in memory, or can't be."""
        self.residents[message.folder] = message

    def on_stats(self, message: Stats) -> None:
        """The engine counted and measured."""
        self.vitals.note(message)

    def on_heartbeat(self, message: Heartbeat) -> None:
        """The engine process is alive."""
        self._beat_at = time.monotonic()
        self._step_s = message.step_s
        if self.phase == "Ready" and self.vitals.take_news(self._beat_at):
            self.changed()

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

    def _begin_anew(self, phase: PodPhase) -> None:
        if self.leaving or self._engine_lost:
            return
        self.ends = {"container": time.time()}
        self.loaded = None
        self.vitals = Vitals()
        self._text_ready = False
        self._enter(phase)

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
