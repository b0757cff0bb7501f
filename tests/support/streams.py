"""A streamed completion that a test reads event by event, or hangs up on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from support.runtime_server import MODEL, RuntimeServer


class Stream:
    """A streamed completion that is being read."""

    def __init__(self, server: RuntimeServer, **fields: Any) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        body = {"model": MODEL, "prompt": "hello", "stream": True} | fields
        headers = {"content-type": "application/json"}
        if server.key:
            headers["authorization"] = f"Bearer {server.key}"
        self.connection.request("POST", "/v1/completions", json.dumps(body), headers)
        self.response = self.connection.getresponse()
        self.lines = self._read()

    def _read(self) -> Iterator[str]:
        while line := self.response.readline():
            if line.startswith(b"data: "):
                yield line.decode().removeprefix("data: ").strip()

    def close(self) -> None:
        """Hang up."""
        self.response.close()
        self.connection.close()
