"""Server addresses as people type them.

Knows the shapes of a base URL; does not connect to anything. Pure.
"""

from __future__ import annotations


def complete_url(url: str) -> str:
    """What people type → the base URL: `localhost:8000` and `http://host/v1/` both mean `…/v1`."""
    url = url.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    return url if "/" in url.partition("://")[2] else f"{url}/v1"
