"""One parsed request, and the interface of whoever answers requests.

Knows method, target, headers and body; does not know sockets. Made by `connection`, read by apps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from stoker_gateway.http.reply import Headers, Reply


@dataclass(slots=True)
class Request:
    """A request; `body` is complete when an app is called, and empty when it is checked."""

    id: str
    """Ours, unique; never the client's."""
    target: bytes = b""
    """As sent: path and query."""
    method: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Lower-case names."""
    body: bytes = b""
    version: str = ""
    keep_alive: bool = True
    """Whether the client and the protocol allow another request on the connection."""
    arrived_at: float = 0
    """Monotonic seconds at which the request was complete."""
    answer_headers: Headers = field(default_factory=list)
    """What the answer carries, whatever it is."""
    deployment: str = ""
    """`namespace/name`, once an app knows."""

    @property
    def http10(self) -> bool:
        """Whether the client knows no chunks."""
        return self.version == "1.0"

    @property
    def is_http_1(self) -> bool:
        """Whether it is what it says; from 1.1 on a request names its host (RFC 9112, 3.2)."""
        return self.http10 or (self.version == "1.1" and b"host" in self.headers)

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body; none is for HTTP/1.0."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue" and not self.http10

    @property
    def origin_form(self) -> bytes:
        """Path and query; some clients send scheme and host as well."""
        if self.target.startswith(b"/"):
            return self.target
        return b"/" + self.target.partition(b"://")[2].partition(b"/")[2]

    @property
    def path(self) -> str:
        """The decoded path."""
        raw = self.origin_form.partition(b"?")[0]
        text = raw.decode("latin-1")
        return unquote(text) if "%" in text else text

    @property
    def announced_bytes(self) -> int | None:
        """The announced size of the body; None when it comes in chunks."""
        if b"transfer-encoding" in self.headers:
            return None
        return int(self.headers.get(b"content-length", b"0"))


class App(Protocol):
    """Answers requests."""

    def check(self, request: Request) -> None:
        """Look at the head before the body is read. Raises `ApiError`."""

    async def __call__(self, request: Request, reply: Reply) -> None:
        """Answer. Cancelled when the client is gone. Raises `ApiError`."""

    def ended(self, request: Request, reply: Reply) -> None:
        """A request came to its end: answered, refused, failed, or its client is gone."""
