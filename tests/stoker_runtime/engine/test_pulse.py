"""The heart beats beside a step, and says how long the step takes."""

from __future__ import annotations

import socket
import threading

from stoker_runtime.engine.link import Link
from stoker_runtime.engine.pulse import Pulse
from stoker_runtime.wire import ApiInbox, EngineInbox, Heartbeat
from support.runtime_server import wait_until


def test_it_beats_while_a_step_runs() -> None:
    ours, theirs = socket.socketpair()
    closed = threading.Event()
    pulse = Pulse(Link(theirs, EngineInbox(), closed.set))
    with ours, theirs, pulse.step():
        wait_until(lambda: pulse.step_s > 0)
        pulse.start()
        (beat,) = ApiInbox().feed(ours.recv(1 << 10))
        theirs.shutdown(socket.SHUT_RDWR)
        closed.wait(10)
    assert isinstance(beat, Heartbeat)
    assert beat.step_s > 0


def test_between_steps_there_is_no_step() -> None:
    ours, theirs = socket.socketpair()
    closed = threading.Event()
    pulse = Pulse(Link(theirs, EngineInbox(), closed.set))
    assert pulse.step_s == 0
    with pulse.step():
        pass
    assert pulse.step_s == 0
    ours.close()
    closed.wait(10)
    theirs.close()
