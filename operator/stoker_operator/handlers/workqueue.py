"""A queue of keys: one task at a time for each; keys that somebody waits for wait for no other.

Knows keys, instants to come back at, and backoff; does not know what reconciling is. However often
a key is added while it is being worked on, it is worked on once more. All others share `LIMIT`
places: a thousand that change at once would keep the API server from answering a wake, or the
renewal of the Lease, for seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from stoker_operator.errors import ClusterError, LeaseLost
from stoker_operator.metrics import RECONCILE_SECONDS, RECONCILES

logger = logging.getLogger(__name__)

MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 30.0
LIMIT = 16
"""Keys that are worked on at once, those in a hurry apart."""
STOP_S = 0.5
"""How long the looks that have begun may take to end."""
SHORTEST_S = 0.005
"""No key comes back sooner by itself, whatever it asks for."""

Reconcile = Callable[[str], Awaitable[float | None]]
"""Brings one key up to date; the instant at which to look again, if there is one."""


class WorkQueue:
    """Keys waiting for, or in, reconciliation."""

    def __init__(self, reconcile: Reconcile, clock: Callable[[], float] = time.time) -> None:
        self._reconcile = reconcile
        self._clock = clock
        self._dirty: set[str] = set()
        self._waiting: dict[str, None] = {}
        """For a place, first come first served."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._stopped = False

    def add(self, key: str) -> None:
        """Something about this key has changed."""
        self._dirty.add(key)
        if key not in self._tasks and key not in self._failures:
            self._waiting.setdefault(key)
            self._fill()

    def hurry(self, key: str) -> None:
        """The same, and somebody waits for it."""
        self._dirty.add(key)
        if key not in self._tasks and key not in self._failures:
            self._start(key)

    async def stop(self) -> None:
        """Begin nothing any more, and let what runs come to its end: a write that is cut takes
        effect all the same, unseen, perhaps after the next leader has acted."""
        self._stopped = True
        self._waiting.clear()
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Wait until nothing is being worked on."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    def _fill(self) -> None:
        """Give free places to those that wait."""
        while self._waiting and len(self._tasks) < LIMIT:
            self._start(next(iter(self._waiting)))

    def _start(self, key: str) -> None:
        self._waiting.pop(key, None)
        if self._stopped:
            return
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._tasks[key] = asyncio.create_task(self._work(key), name=f"reconcile {key}")

    async def _work(self, key: str) -> None:
        look_at: float | None = None
        try:
            while key in self._dirty and not self._stopped:
                self._dirty.discard(key)
                with RECONCILE_SECONDS.time():
                    look_at = await self._reconcile(key)
                self._failures.pop(key, None)
                RECONCILES.labels("done").inc()
        except LeaseLost:
            self._failures.pop(key, None)
            RECONCILES.labels("stood_down").inc()
        except Exception as error:
            RECONCILES.labels("failed").inc()
            _log_failure(key, error)
            look_at = self._clock() + max(self._next_backoff_s(key), _asked_pause_s(error))
        finally:
            del self._tasks[key]
            self._fill()
        if look_at is not None:
            self._schedule(key, look_at)

    def _next_backoff_s(self, key: str) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(failures, 20))

    def _schedule(self, key: str, at: float) -> None:
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(max(SHORTEST_S, at - self._clock()), self._wake, key)

    def _wake(self, key: str) -> None:
        self._timers.pop(key, None)
        self._dirty.add(key)
        if key not in self._tasks:
            self._waiting.setdefault(key)
            self._fill()


def _asked_pause_s(error: Exception) -> float:
    """How long the API server wants to be left alone, within what a key can wait."""
    return min(MAX_BACKOFF_S, error.retry_after_s) if isinstance(error, ClusterError) else 0.0


def _log_failure(key: str, error: Exception) -> None:
    if isinstance(error, ClusterError):
        logger.warning("%s: %s; tried again", key, error)
    else:
        logger.error("%s: %r; tried again", key, error, exc_info=error)
