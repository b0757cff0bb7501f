"""The engine's end of the socket to the API process.

Knows bytes and wire messages; does not know what they mean. A small thread reads, so that messages
arrive while a step or the load goes on; a closed socket means that the parent is gone and ends this
process at once, whatever it is doing.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable

from stoker_runtime.wire import EngineInbox, ToApi, ToEngine, send

_RECEIVE_BYTES = 1 << 18


def _exit_at_once() -> None:
    os._exit(0)


class Link:
    """Messages from and to the API process."""

    def __init__(self, sock: socket.socket, on_close: Callable[[], None] = _exit_at_once) -> None:
        self._sock = sock
        self._on_close = on_close
        self._sending = threading.Lock()
        self._messages: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="link", daemon=True).start()

    def send(self, message: ToApi) -> None:
        """Write a message, from any thread; a parent that is gone ends this process."""
        try:
            with self._sending:
                send(self._sock, message)
        except OSError:
            self._on_close()

    def take(self, timeout_s: float) -> list[ToEngine]:
        """All messages there are; waits up to `timeout_s` for the first, without using CPU."""
        messages: list[ToEngine] = []
        try:
            messages.append(self._messages.get(timeout_s > 0, timeout_s or None))
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def _read(self) -> None:
        inbox = EngineInbox()
        try:
            while data := self._sock.recv(_RECEIVE_BYTES):
                for message in inbox.feed(data):
                    self._messages.put(message)
        except OSError:
            pass
        self._on_close()
