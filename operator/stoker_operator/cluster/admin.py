"""The admin ports of runtime pods: one order, one answer.

Knows HTTP and how its failures are told apart; does not know what is ordered nor what follows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from stoker_operator.errors import LeaseLost, RuntimeGone, RuntimeSilent

CONNECT_S = 2.0
ANSWER_S = 10.0
"""A load may take minutes: whoever waits asks again, and joins what runs."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one pod."""

    address: str
    """`host:port`."""
    path: str
    """`/state` is read, everything else is ordered."""
    token: str | None = field(default=None, repr=False)
    body: str = field(default="", repr=False)
    """JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)


class AdminPorts(Protocol):
    """What adoption needs of runtimes; `HttpAdminPorts` talks to them, tests have a small fake."""

    async def call(self, call: Call) -> Answer:
        """One answer. Raises `RuntimeSilent` and `RuntimeGone`."""


class HttpAdminPorts:
    """Real runtimes."""

    def __init__(self, may_order: Callable[[], bool]) -> None:
        self._may_order = may_order
        self._session: aiohttp.ClientSession | None = None

    async def call(self, call: Call) -> Answer:
        """See `AdminPorts`. Raises `LeaseLost` too: a pod may be another model's by now."""
        if not self._may_order():
            raise LeaseLost("this process does not lead")
        headers = {"Authorization": f"Bearer {call.token}"} if call.token else {}
        method = "GET" if call.path == "/state" else "POST"
        data = None if method == "GET" else call.body or "{}"
        if data is not None:
            headers["Content-Type"] = "application/json"
        url = f"http://{call.address}{call.path}"
        try:
            async with self._open().request(method, url, headers=headers, data=data) as response:
                return Answer(response.status, _read(await response.read()))
        except aiohttp.ConnectionTimeoutError as error:
            raise RuntimeGone(f"{call.address} cannot be reached") from error
        except TimeoutError as error:
            raise RuntimeSilent(f"{call.address}{call.path}: no answer yet") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeGone(f"{call.address}: {error!r}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
