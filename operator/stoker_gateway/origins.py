"""Which web pages' scripts may ask this gateway, and what their browsers must be told.

Knows origins and the headers of CORS (the Fetch standard, "CORS protocol"); does not know routes.
Keys stay in the `Authorization` header, so no answer depends on cookies. Pure; used by `app`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Headers = list[tuple[bytes, bytes]]

ANY = "*"
EXPOSED = b"x-request-id, retry-after, server-timing, x-stoker-queued-ms, x-stoker-cold-start"
METHODS = b"GET, HEAD, POST"
MAX_AGE_S = b"7200"
"""As long as browsers keep a permission at most."""


class Origins:
    """The origins whose pages are let in."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {origin.rstrip("/").encode() for origin in allowed}
        self._all = ANY.encode() in self._allowed

    def headers(self, asked: Mapping[bytes, bytes]) -> Headers:
        """What any answer to these request headers must carry; nothing for other clients."""
        origin = asked.get(b"origin")
        if origin is None or not (self._all or origin in self._allowed):
            return []
        let_in = [(b"access-control-expose-headers", EXPOSED)]
        if self._all:
            return [(b"access-control-allow-origin", b"*"), *let_in]
        return [(b"access-control-allow-origin", origin), (b"vary", b"origin"), *let_in]

    def preflight(self, asked: Mapping[bytes, bytes]) -> Headers | None:
        """What else to answer to a browser that asks before it asks; None for other requests."""
        if b"access-control-request-method" not in asked or not self.headers(asked):
            return None
        wanted = asked.get(b"access-control-request-headers", b"authorization, content-type")
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", wanted),
            (b"access-control-max-age", MAX_AGE_S),
        ]
