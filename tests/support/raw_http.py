"""HTTP on bare sockets: any bytes out, and answers in, each held to the letter of the protocol.

Knows framing and OpenAI's error body; does not know which server answers or what was asked.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The body's error, which must have OpenAI's keys and no others."""
        assert set(self.json) == {"error"}, self.body
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return dict(self.json["error"])


def exchange(port: int, parts: Sequence[bytes], *, ends: bool = True) -> bytes:
    """Send, say that no more comes unless told otherwise, and read until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        with suppress(ConnectionError):  # it may refuse before everything is sent
            for part in parts:
                sock.sendall(part)
            if ends:
                sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := sock.recv(1 << 16):
                received += part
    return received


class CutShort(AssertionError):
    """The connection ended within an answer."""


def parse(data: bytes) -> list[Answer]:
    """Answers one after the other, each HTTP. Raises `CutShort` for one that does not end."""
    answers = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        if not end:
            raise CutShort(head[:200])
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        assert all(": " in line for line in lines), lines
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body, data = _take_body(headers, data, status)
        answers.append(Answer(int(status), headers, body))
    return answers


def _take_body(headers: dict[str, str], data: bytes, status: str) -> tuple[bytes, bytes]:
    """The body, and what follows it."""
    if status.startswith("1") or status in ("204", "304"):
        return b"", data
    if headers.get("transfer-encoding") == "chunked":
        return _take_chunks(data)
    if "content-length" not in headers:
        assert headers.get("connection") == "close"
        return data, b""
    length = int(headers["content-length"])
    if len(data) < length:
        raise CutShort(data[:200])
    return data[:length], data[length:]


def _take_chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body, end, data = body + data[:count], data[count : count + 2], data[count + 2 :]
        if not count:
            return body, data
        if end != b"\r\n":
            break
    raise CutShort(body[:200])
