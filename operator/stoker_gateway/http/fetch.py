"""One small request to a pod or a sibling, answered as a whole: probes and announcements.

Knows status and body; for streams there is `relay`.
"""

from __future__ import annotations

import asyncio

from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.reply import Headers
from stoker_gateway.http.upstream import Pool

MAX_ANSWER_BYTES = 64 * 1024


class _Whole:
    """Collects an answer."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status

    def on_body(self, data: bytes) -> None:
        if len(self.body) < MAX_ANSWER_BYTES:
            self.body += data

    def on_end(self) -> None:
        self._finish(True)

    def on_lost(self) -> None:
        self._finish(False)

    def _finish(self, complete: bool) -> None:
        if not self.done.done():
            self.done.set_result(complete)


async def fetch(pool: Pool, head: bytes, body: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer to `METHOD /path` plus header lines. Raises `UpstreamError`."""
    connection = await pool.connect()
    whole = _Whole()
    framing = b"host: stoker\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    method, _, headers = head.partition(b"\r\n")
    connection.send(b"%b HTTP/1.1\r\n%b%b%b" % (method, headers, framing, body), whole)
    try:
        async with asyncio.timeout(timeout_s):
            complete = await whole.done
    except TimeoutError as error:
        raise UpstreamError("timeout") from error
    finally:
        connection.abort()
    if not complete:
        raise UpstreamError("closed")
    return whole.status, whole.body
