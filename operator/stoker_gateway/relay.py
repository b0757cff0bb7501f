"""One answer of one pod on its way to the client: head rewritten, body passed on as it comes.

Knows what may follow a head that was already sent (a heartbeat's), back-pressure, and the private
refusal. Does not retry; `proxy` asks what happened when `finished` is done.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal, cast

from stoker_api import names
from stoker_gateway.errors import ApiError
from stoker_gateway.http.reply import EVENT_STREAM, Headers, Reply
from stoker_gateway.http.upstream import UpstreamConnection
from stoker_gateway.queue import Held
from stoker_gateway.tokens import TAIL_BYTES, Usage, find_usage

Refusal = Literal["full", "draining", "loading"]
REFUSED_HEADER = names.REFUSED_HEADER.encode()
NO_CACHE = (b"cache-control", b"no-cache")
SSE: Headers = [
    (b"content-type", EVENT_STREAM + b"; charset=utf-8"),
    NO_CACHE,
    (b"x-accel-buffering", b"no"),
]
DROPPED = frozenset({
    b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"te", b"trailer",
    b"upgrade", b"proxy-authenticate", b"proxy-connection", b"date", b"server", b"x-request-id",
    REFUSED_HEADER,
})  # fmt: skip
"""Headers that concern one hop, or that this gateway sets itself."""


class Relay:
    """The sink of one exchange."""

    __slots__ = (
        "_early",
        "_held",
        "_reply",
        "_tail",
        "answered",
        "connection",
        "denied",
        "finished",
        "first_byte_at",
        "is_sse",
        "lost",
        "over",
        "refused",
        "sent_at",
    )

    def __init__(self, reply: Reply, connection: UpstreamConnection, held: Held) -> None:
        self._reply = reply
        self.connection = connection
        self._held = held
        self._early: list[bytes] | None = None
        self._tail = b""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent_at = time.monotonic()
        self.first_byte_at = 0.0
        self.is_sse = False
        self.lost = False
        self.over = False
        self.answered = False
        """The pod said 200."""
        self.denied = False
        """The pod did not accept the gateway's token."""
        self.refused: Refusal | None = None

    @property
    def lost_unanswered(self) -> bool:
        """The connection ended before the first byte."""
        return self.lost and not self.first_byte_at

    @property
    def usage(self) -> Usage | None:
        """The tokens that the answer says it took, if it does."""
        return find_usage(self._tail)

    def on_head(self, status: int, headers: Headers) -> None:
        """Pass the head on, unless it is a refusal or the client has one already."""
        fields = dict(headers)
        if status == 503 and REFUSED_HEADER in fields:
            said = fields[REFUSED_HEADER].decode("latin-1")
            self.refused = cast(Refusal, said) if said in ("full", "draining") else "loading"
            return
        self.first_byte_at = time.monotonic()
        self.answered, self.denied = status == 200, status == 401
        if self.denied:
            return
        self.is_sse = fields.get(b"content-type", b"").startswith(EVENT_STREAM)
        self._reply.on_writable = self.connection.resume
        if self._reply.started:
            self._early = None if status == 200 and self.is_sse else []
            self._reply.write(b": queued %d ms\n\n" % self._queued_ms)
            return
        kept = [header for header in headers if header[0] not in DROPPED]
        if self.is_sse and b"cache-control" not in fields:
            kept.append(NO_CACHE)
        length = fields.get(b"content-length")
        self._reply.start(status, kept + self._own_headers(), int(length) if length else None)

    @property
    def _queued_ms(self) -> int:
        return round(self._held.waited_s * 1000)

    def _own_headers(self) -> Headers:
        if not self._held.waited_s:
            return []
        own = [
            (b"x-stoker-queued-ms", b"%d" % self._queued_ms),
            (b"server-timing", b"queue;dur=%d" % self._queued_ms),
        ]
        if self._held.cold:
            own.append((b"x-stoker-cold-start", b"fresh"))
        return own

    def on_body(self, data: bytes) -> None:
        """Pass it on; a client that does not keep up holds the pod's stream back."""
        if self.refused or self.denied:
            return
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self._early is not None:
            self._early.append(data)
            return
        self._reply.write(data)
        if self._reply.paused:
            self.connection.pause()

    def on_end(self) -> None:
        """The answer is complete."""
        if self.refused is None and not self.denied:
            if self._early is not None:
                self._reply.write(_as_event(b"".join(self._early)))
            self._reply.finish()
        self._finish()

    def on_lost(self) -> None:
        """The pod is gone, or only this connection."""
        self.lost = True
        self._finish()

    def _finish(self) -> None:
        self.over = True
        self._reply.on_writable = None
        if not self.finished.done():
            self.finished.set_result(None)


def _as_event(body: bytes) -> bytes:
    """A plain answer inside a stream that heartbeats have begun: one event, then the end."""
    if body.lstrip()[:1] != b"{":
        return ApiError(502, "upstream_error", body[:500].decode(errors="replace")).event
    return b"data: " + b" ".join(body.split(b"\n")) + b"\n\ndata: [DONE]\n\n"
