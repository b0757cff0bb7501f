"""The engine process: `python -m stoker_runtime.engine --fd N` and the server's own flags.

Knows messages and the socket; does not know tensors, nor how a model is loaded (`tenancy`). Started
by the API process with one end of a socket pair.
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

from stoker_runtime.config import Config, parse_config
from stoker_runtime.engine.failure import explain
from stoker_runtime.engine.link import Link
from stoker_runtime.engine.machine import observe_machine
from stoker_runtime.engine.orders import Order, Orders
from stoker_runtime.engine.pulse import Pulse
from stoker_runtime.engine.ranks import make_ranks
from stoker_runtime.engine.resident import Residents
from stoker_runtime.engine.tenancy import Tenancy
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.logs import configure_logging
from stoker_runtime.parallel.share import Share
from stoker_runtime.wire import (
    Abort,
    EngineInbox,
    Failed,
    Generate,
    Load,
    Loaded,
    Output,
    Outputs,
    Phase,
    Settled,
    Sleep,
    Stats,
    Stop,
    ToEngine,
    Unload,
    Wake,
)

log = logging.getLogger(__name__)

_STATS_S = 0.25
_REHEARSAL_S = 0.1
"""A standby that was told nothing for so long rehearses what it holds."""
_FOR_EVER_S = 3600.0


def main(args: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until told to stop; the exit status."""
    configure_logging("text")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the API process's to handle: it drains
    sock, flags = _open_socket(args)
    if flags[:1] == ["--rank"]:
        return _follow(int(flags[1]), flags[2:], environ, Link(sock, Orders()))
    link = Link(sock, EngineInbox())
    try:
        config = parse_config(flags, environ)
        configure_logging(config.log_format)
        _serve(config, link)
    except Exception as error:
        _say(link, explain(error))
        return 1
    return 0


def _serve(config: Config, link: Link[ToEngine]) -> None:
    """Load what the flags say, or be a standby; then loop until told to stop."""
    ranks = make_ranks(config)
    ranks.start(config, lambda failed: _end(link, failed))
    pulse = Pulse(link)
    pulse.start()
    machine = observe_machine().divide(ranks.share)
    residents = Residents(config, machine, link.send)
    residents.start()
    tenancy = Tenancy(residents, lambda name: link.send(Phase(name, time.time())), ranks)
    if config.is_standby:
        tenancy.warm_up(config, machine)
        link.send(Settled())
    else:
        link.send(tenancy.load(config))
    Loop(tenancy, link, pulse).run()


class Loop:
    """Steps while there is work, sleeps on the socket while there is none."""

    def __init__(self, tenancy: Tenancy, link: Link[ToEngine], pulse: Pulse) -> None:
        self._tenancy = tenancy
        self._link = link
        self._pulse = pulse
        self._stats_at = 0.0
        self._sent_stats: Stats | None = None

    def run(self) -> None:
        """Until `Stop`."""
        while True:
            messages = self._link.take(self._patience_s(time.monotonic()))
            outputs = [output for message in messages for output in self._on_message(message)]
            if any(isinstance(message, Stop) for message in messages):
                return
            if not messages:
                self._tenancy.rehearse()
            if self._tenancy.engine:
                with self._pulse.step():
                    outputs += self._tenancy.engine.step()
            if outputs:
                self._link.send(Outputs(outputs))
            self._report(time.monotonic())

    def _on_message(self, message: ToEngine) -> list[Output]:
        engine = self._tenancy.engine
        match message:
            case Generate() if engine:
                return engine.submit(message)
            case Generate():
                return [Output(message.id, [], "error", error="no model is loaded")]
            case Abort() if engine:
                return engine.abort(message.ids)
            case Load() | Unload() | Sleep() | Wake():
                self._link.send(self._change(message))
        return []

    def _change(self, message: Load | Unload | Sleep | Wake) -> Loaded | Settled | Failed:
        """Move the model; whatever goes wrong with a load leaves a standby, not a wreck."""
        try:
            match message:
                case Load():
                    return self._tenancy.load(parse_config(message.flags, {}))
                case Wake():
                    return self._tenancy.wake()
                case Unload():
                    self._tenancy.unload()
                case Sleep():
                    self._tenancy.sleep(message.level)
        except Exception as error:
            return explain(error)
        return Settled()

    def _patience_s(self, now: float) -> float:
        """How long to sleep: not at all with work, until the next report is due, else for ever."""
        engine = self._tenancy.engine
        if engine is None:
            return _REHEARSAL_S if self._tenancy.may_rehearse else _FOR_EVER_S
        if engine.has_work or engine.can_prepare:
            return 0.0
        if engine.stats == self._sent_stats:
            return _FOR_EVER_S
        return max(0.0, self._stats_at - now)

    def _report(self, now: float) -> None:
        engine = self._tenancy.engine
        if engine and now >= self._stats_at and engine.stats != self._sent_stats:
            self._stats_at = now + _STATS_S
            self._sent_stats = engine.stats
            self._link.send(self._sent_stats)


def _open_socket(args: Sequence[str]) -> tuple[socket.socket, list[str]]:
    """The socket of `--fd N`, which comes first, and the other flags."""
    match list(args):
        case ["--fd", number, *flags] if number.isdigit():
            return socket.socket(fileno=int(number)), flags
    raise ConfigInvalid("the engine is started by the server: `--fd N` must come first")


def _follow(rank: int, flags: list[str], environ: Mapping[str, str], link: Link[Order]) -> int:
    """Be another rank: do what the leader says until it ends; the exit status."""
    from stoker_runtime.engine.follower import Follower  # not before: a leader needs none of it

    try:
        config = parse_config(flags, environ)
        configure_logging(config.log_format)
        Follower(config, link, Share(rank, config.tensor_parallel)).run()
    except Exception as error:
        _say(link, explain(error))
    return 1


def _say(link: Link[ToEngine] | Link[Order], failed: Failed) -> None:
    with contextlib.suppress(OSError):
        link.send(failed)


def _end(link: Link[ToEngine], failed: Failed) -> None:
    """Another rank has ended, and this one may be waiting for it where nothing can wake it."""
    _say(link, failed)
    logging.shutdown()
    os._exit(1)


def run() -> None:
    """Entry of `python -m stoker_runtime.engine`; leaves without tearing torch down."""
    status = main(sys.argv[1:], os.environ)
    logging.shutdown()
    os._exit(status)
