"""One end of a socket between two processes of a runtime.

Knows bytes and messages; does not know what they mean. A small thread reads, so that messages
arrive while a step or the load goes on; a closed socket means that the other process is gone, and
if that is the parent ends this one at once, whatever it is doing.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Generic

import msgspec

from stoker_runtime.wire import Inbox, Received, send

_RECEIVE_BYTES = 1 << 18


def _exit_at_once() -> None:
    os._exit(0)


class Link(Generic[Received]):
    """Messages from and to the other process."""

    def __init__(
        self,
        sock: socket.socket,
        inbox: Inbox[Received],
        on_close: Callable[[], None] = _exit_at_once,
    ) -> None:
        self._sock = sock
        self._inbox = inbox
        self._on_close = on_close
        self._sending = threading.Lock()
        self._messages: queue.SimpleQueue[Received] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def send(self, message: msgspec.Struct) -> None:
        """Write a message, from any thread; `on_close` is called if nobody is there to read it."""
        try:
            with self._sending:
                send(self._sock, message)
        except OSError:
            self._on_close()

    def take(self, timeout_s: float) -> list[Received]:
        """All messages there are; waits up to `timeout_s` for the first, without using CPU."""
        messages: list[Received] = []
        try:
            messages.append(self._messages.get(timeout_s > 0, timeout_s or None))
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def _read(self) -> None:
        try:
            while data := self._sock.recv(_RECEIVE_BYTES):
                for message in self._inbox.feed(data):
                    self._messages.put(message)
        except OSError:
            pass
        self._on_close()
