"""The engine process: `python -m stoker_runtime.engine --fd N` and the server's own flags.

Knows phases, heartbeats and the socket; does not know tensors. Started by the API process with one
end of a socket pair. Imports torch only after the threads that read the weights were started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stoker_runtime.config import Config, parse_config
from stoker_runtime.engine.imports import import_torch
from stoker_runtime.engine.link import Link
from stoker_runtime.engine.loading import Recipe, prepare
from stoker_runtime.engine.machine import observe_machine
from stoker_runtime.errors import ConfigInvalid, EngineCrashed, OutOfMemory, StokerRuntimeError
from stoker_runtime.logs import configure_logging
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.wire import (
    Abort,
    Failed,
    Generate,
    Heartbeat,
    Output,
    Outputs,
    Phase,
    Stats,
    Stop,
    ToEngine,
)

if TYPE_CHECKING:
    from stoker_runtime.engine.engine import Engine

log = logging.getLogger(__name__)

_READING_THREADS = 4
_PLAIN_IMPORTS = "_STOKER_PLAIN_IMPORTS"
_HEARTBEAT_S = 1.0
_STATS_S = 0.25


def main(args: Sequence[str], environ: Mapping[str, str]) -> int:
    """Load, serve until told to stop; the exit status."""
    configure_logging("text")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the API process's to handle: it drains
    link, flags = _open_link(args)
    try:
        config = parse_config(flags, environ)
        configure_logging(config.log_format)
        engine = load(config, link)
        Loop(engine, link).run()
    except StokerRuntimeError as error:
        return _report_failure(link, error)
    except MemoryError as error:
        return _report_failure(link, OutOfMemory(f"out of memory: {error}; give the pod more"))
    except Exception as error:
        log.exception("the engine crashed")
        message = f"{type(error).__name__}: {error}; the log has the traceback"
        return _report_failure(link, EngineCrashed(message))
    return 0


def load(config: Config, link: Link) -> Engine:
    """From the folder to an engine that made a token."""
    recipe = prepare(config, observe_machine())
    reader = BlobReader(recipe.placed, _READING_THREADS).start()
    _set_thread_policy(recipe)
    _import_torch()
    from stoker_runtime.engine import assembly  # not before: it imports torch

    _report_phase(link, "imports")
    model = assembly.build_model(recipe, reader.wait())
    _report_phase(link, "weights")
    engine, loaded = assembly.build_engine(recipe, model)
    engine.warm_up()
    _report_phase(link, "firstToken")
    link.send(loaded)
    return engine


def _set_thread_policy(recipe: Recipe) -> None:
    """Variables that torch's libraries read when they are loaded.

    Idle OpenMP workers sleep instead of spinning: where others want the processors too, spinning
    made the first token 50 times slower. OpenBLAS knows no quota, and in bfloat16 it is only called
    from within OpenMP's threads.
    """
    num_threads = recipe.num_threads if recipe.dtype == "float32" else 1
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(num_threads))


def _import_torch() -> None:
    """The quick way; a torch that won't have it is imported whole, after a new start."""
    if os.environ.get(_PLAIN_IMPORTS):
        return
    try:
        import_torch()
    except (ImportError, AttributeError) as error:
        log.warning(
            "torch can't be imported in parts, starting again to import it whole: %s", error
        )
        os.environ[_PLAIN_IMPORTS] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "stoker_runtime.engine", *sys.argv[1:]])


class Loop:
    """Steps while there is work, sleeps on the socket while there is none."""

    def __init__(self, engine: Engine, link: Link) -> None:
        self._engine = engine
        self._link = link
        self._beat_at = 0.0
        self._stats_at = 0.0
        self._sent_stats: Stats | None = None

    def run(self) -> None:
        """Until `Stop`."""
        while True:
            messages = self._link.take(self._patience_s(time.monotonic()))
            outputs = [output for message in messages for output in self._on_message(message)]
            if any(isinstance(message, Stop) for message in messages):
                return
            outputs += self._engine.step()
            if outputs:
                self._link.send(Outputs(outputs))
            self._report(time.monotonic())

    def _on_message(self, message: ToEngine) -> list[Output]:
        match message:
            case Generate():
                return self._engine.submit(message)
            case Abort():
                return self._engine.abort(message.ids)
            case Stop():
                return []

    def _patience_s(self, now: float) -> float:
        """How long to sleep: not at all with work, else until the next report is due."""
        if self._engine.has_work:
            return 0.0
        changed = self._engine.stats != self._sent_stats
        due_at = min(self._beat_at, self._stats_at) if changed else self._beat_at
        return max(0.0, due_at - now)

    def _report(self, now: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + _HEARTBEAT_S
            self._link.send(Heartbeat(time.time()))
        if now >= self._stats_at and self._engine.stats != self._sent_stats:
            self._stats_at = now + _STATS_S
            self._sent_stats = self._engine.stats
            self._link.send(self._sent_stats)


def _open_link(args: Sequence[str]) -> tuple[Link, list[str]]:
    """The socket of `--fd N`, which comes first, and the other flags."""
    match list(args):
        case ["--fd", number, *flags] if number.isdigit():
            return Link(socket.socket(fileno=int(number))), flags
    raise ConfigInvalid("the engine is started by the server: `--fd N` must come first")


def _report_phase(link: Link, name: str) -> None:
    link.send(Phase(name, time.time()))


def _report_failure(link: Link, error: StokerRuntimeError) -> int:
    log.error("%s: %s", error.reason, error)
    with contextlib.suppress(OSError):
        link.send(Failed(error.reason, str(error)))
    return 1


def run() -> None:
    """Entry of `python -m stoker_runtime.engine`; leaves without tearing torch down."""
    status = main(sys.argv[1:], os.environ)
    logging.shutdown()
    os._exit(status)
