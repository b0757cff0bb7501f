"""A runtime pod that says, byte for byte, what the request tells it to, and then hangs up.

Knows sockets only, so that no library corrects what it sends. A request's body holds the script:
`say`, a list of hex strings that are sent one after the other, and `end`, one of `close`, `reset`
and `keep` (keep the connection open for the next request).
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READY = b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"slots": 4}'
_LINGER_NONE = struct.pack("ii", 1, 0)


class _Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            while head := self._read_head():
                if head[0].startswith("GET"):
                    self.wfile.write(READY)
                    continue
                script = json.loads(self.rfile.read(_length(head)))
                for part in script.get("say", ()):
                    self.wfile.write(bytes.fromhex(part))
                if script.get("end") == "reset":
                    option = (socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                    self.connection.setsockopt(*option)
                if script.get("end") != "keep":
                    return

    def _read_head(self) -> list[str]:
        lines = []
        while line := self.rfile.readline().decode("latin-1").strip():
            lines.append(line.lower() if lines else line)
        return lines


def _length(head: list[str]) -> int:
    prefix = "content-length: "
    return int(next(line.removeprefix(prefix) for line in head if line.startswith(prefix)))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def run_odd_pod() -> Iterator[str]:
    """The address of a running one."""
    with _Server(("127.0.0.1", 0), _Conversation) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield "{}:{}".format(*server.server_address[:2])
        finally:
            server.shutdown()
            thread.join()
