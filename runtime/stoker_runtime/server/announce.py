"""Tells the gateway what this pod is, the moment it changes, until it was heard.

Knows the announcement's JSON and a POST over a plain socket; does not know who listens or what is
concluded. Only the newest state is sent: an older one that was not heard yet is of no use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from stoker_runtime.config import Config
from stoker_runtime.server.lifecycle import Lifecycle

log = logging.getLogger(__name__)

_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 2.0
_ANSWER_S = 2.0
_CALM_S = 0.25
"""Details within a phase wait so long for more of them: whoever hears them works while the model
loads, on the same processors where there are few."""
_DONE = 204


@dataclass(frozen=True, slots=True)
class Target:
    """Where announcements go, and under which name."""

    host: str
    port: int
    path: str
    token: str
    identity: dict[str, str]
    """`namespace`, `deployment`, `pod` and `address`."""


def read_target(config: Config) -> Target | None:
    """The target that the operator set; None when started by hand, or while there is no model."""
    if not config.announce_url or config.is_standby:
        return None
    url = urlsplit(config.announce_url)
    host = f"[{config.pod_ip}]" if ":" in config.pod_ip else config.pod_ip
    identity = {
        "namespace": config.namespace,
        "deployment": config.deployment,
        "pod": config.pod_name,
        "address": f"{host}:{config.port}",
    }
    return Target(url.hostname or "", url.port or 80, url.path or "/", config.token, identity)


class Announcer:
    """Sends the newest state until the gateway took it."""

    def __init__(self, target: Target | None, lifecycle: Lifecycle) -> None:
        """Announce `lifecycle` to `target`, which changes with the model; None: to nobody."""
        self.target = target
        self._lifecycle = lifecycle
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._told = ""
        """The phase that was last announced."""

    def notify(self) -> None:
        """Something changed."""
        self._heard.clear()
        self._news.set()

    async def run(self) -> None:
        """Announce for ever."""
        while True:
            await self._news.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALM_S):
                    await self._turn()
            self._news.clear()
            await self._deliver()

    async def wait_heard(self, seconds: float) -> None:
        """Wait until the newest state was heard, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            log.warning("the last announcement was not heard within %s s", seconds)

    async def _turn(self) -> None:
        """Wait until the phase is another one than was announced."""
        while self._told == self._lifecycle.phase:
            self._news.clear()
            await self._news.wait()

    async def _deliver(self) -> None:
        """Retry until it is heard, or until there is something newer to say."""
        self._told = self._lifecycle.phase
        pause_s = _FIRST_RETRY_S
        while self.target and not await self._post(self.target):
            try:
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
            except TimeoutError:
                pause_s = min(pause_s * 2, _LAST_RETRY_S)
            else:
                return
        if not self._news.is_set():
            self._heard.set()

    async def _post(self, target: Target) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_S):
                status = await _exchange(target, self.render(target))
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            log.debug("announcement not delivered: %r", error)
            return False
        if status != _DONE:
            log.warning("announcement answered with %s", status)
        return status == _DONE

    def render(self, target: Target) -> bytes:
        """The announcement as JSON; its fields are those of the gateway's `Announcement`.

        One who sleeps is announced as one who loads: both take no requests now and will later.
        """
        state = self._lifecycle
        return msgspec.json.encode(
            target.identity
            | _room(state)
            | state.vitals.render()
            | {
                "phase": "Loading" if state.phase == "Asleep" else state.phase,
                "slots": state.slots,
                "reason": state.reason,
                "message": state.message,
                "phases": state.ends,
            }
        )


def _room(state: Lifecycle) -> dict[str, dict[str, int]]:
    """The sum behind "it fits", once the engine has told it."""
    loaded = state.loaded
    if loaded is None or not loaded.kv_bytes_per_token:
        return {}
    return {
        "room": {
            "weight_bytes": loaded.weight_bytes,
            "kv_bytes_per_token": loaded.kv_bytes_per_token,
            "memory_bytes": loaded.memory_bytes,
            "tokens": loaded.num_kv_blocks * loaded.block_size,
            "max_model_len": loaded.max_model_len,
        }
    }


async def _exchange(target: Target, body: bytes) -> int:
    """One POST over a connection of its own; the status of the answer."""
    head = (
        f"POST {target.path} HTTP/1.1\r\n"
        f"host: {target.host}:{target.port}\r\n"
        f"authorization: Bearer {target.token}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(head.encode("latin-1") + body)
        line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.close()
