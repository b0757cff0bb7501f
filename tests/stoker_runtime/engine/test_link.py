"""Messages over a real socket pair, and what happens when the other end goes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stoker_runtime.engine.link import Link
from stoker_runtime.wire import Abort, ApiInbox, EngineInbox, Heartbeat, Stop, pack


class Pair:
    """A link and the other end of its socket."""

    def __init__(self) -> None:
        self.far, near = socket.socketpair()
        self.near = near
        self.closed = threading.Event()
        self.link = Link(near, EngineInbox(), self.closed.set)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.far.close()
    assert made.closed.wait(5)
    made.near.close()


def test_takes_all_messages_there_are_in_order(pair: Pair) -> None:
    frames = [pack(Abort([str(i)])) for i in range(3)]
    pair.far.sendall(b"".join(frames))
    taken = pair.link.take(5)
    while len(taken) < 3:
        taken += pair.link.take(5)
    assert taken == [Abort(["0"]), Abort(["1"]), Abort(["2"])]


def test_puts_split_frames_together(pair: Pair) -> None:
    frame = pack(Abort(["a" * 100]))
    pair.far.sendall(frame[:10])
    assert pair.link.take(0.01) == []
    pair.far.sendall(frame[10:])
    assert pair.link.take(5) == [Abort(["a" * 100])]


def test_waits_no_longer_than_told(pair: Pair) -> None:
    started = time.monotonic()
    assert pair.link.take(0) == []
    assert pair.link.take(0.05) == []
    assert 0.04 < time.monotonic() - started < 2


def test_a_message_ends_the_wait(pair: Pair) -> None:
    threading.Timer(0.05, lambda: pair.far.sendall(pack(Stop()))).start()
    assert pair.link.take(30) == [Stop()]


def test_sends_frames(pair: Pair) -> None:
    pair.link.send(Heartbeat(1.5))
    assert ApiInbox().feed(pair.far.recv(1000)) == [Heartbeat(1.5)]


def test_notices_that_the_other_end_is_gone() -> None:
    pair = Pair()
    pair.far.close()
    assert pair.closed.wait(5)
    pair.closed.clear()
    pair.link.send(Heartbeat(1.0))
    assert pair.closed.is_set()
    pair.near.close()
