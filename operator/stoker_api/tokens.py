"""Bearer tokens derived from one internal key, so that no process needs to read other's Secrets.

Knows HMAC; does not know where the key lies or who presents a token.
"""

from __future__ import annotations

import hashlib
import hmac


def derive_token(key: bytes, purpose: str) -> str:
    """The hex HMAC-SHA256 of `purpose`: one token per purpose, none of which reveals the key."""
    return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()


def bearer_matches(header: str | None, token: str) -> bool:
    """Whether an `Authorization` header carries `token`, in time that tells nothing about it."""
    presented = (header or "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(presented, f"Bearer {token}".encode())
