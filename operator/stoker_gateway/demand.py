"""Tells operators what is wanted: one endless NDJSON answer per subscriber, pushed on change.

Knows when to push at once (a wake, or its end) and when to wait 20 ms for more; the lanes know the
numbers. Snapshots, never differences: a lost line is repaired by the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from stoker_api.demand import Announcement
from stoker_gateway.http.reply import Reply
from stoker_gateway.lane import Lane

COALESCE_S = 0.02
PING_S = 5.0
PING = b'{"kind":"ping"}\n'
Counts = dict[str, str | int | dict[str, int]]
NDJSON = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]

_NEVER: tuple[float, bool, Counts] = (0.0, False, {})


def demand_line(lane: Lane, now: float) -> bytes:
    """A full snapshot of one deployment (`stoker_api.demand.Demand`)."""
    ages = {
        "idle_s": round(lane.idle_s(now), 3),
        "oldest_wait_s": round(lane.queue.oldest_wait_s(now), 3),
    }
    return msgspec.json.encode({"kind": "demand"} | _counts(lane) | ages) + b"\n"


def _counts(lane: Lane) -> Counts:
    """What a line says beside the ages, which follow from when it was said."""
    return {
        "deployment": lane.target.key,
        "queued": len(lane.queue),
        "running": lane.running,
        "arrivals": lane.arrivals,
        "pods": lane.routes.running,
        "queued_tokens": round(lane.tokens.estimate(lane.queue.num_bytes)),
        "arrived_tokens": round(lane.tokens.arrived),
        "completed_tokens": round(lane.tokens.completed),
    }


class DemandPublisher:
    """The demand streams of one worker."""

    def __init__(self, lanes: Callable[[], Iterable[Lane]]) -> None:
        self._lanes = lanes
        self._subscribers: dict[Reply, asyncio.Event] = {}
        self._dirty: set[Lane] = set()
        self._sent: dict[Lane, tuple[float, bool, Counts]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._announced: dict[tuple[str, str], bytes] = {}

    @property
    def num_subscribers(self) -> int:
        """Open streams."""
        return len(self._subscribers)

    def touch(self, lane: Lane) -> None:
        """A lane changed: operators hear a wake or its end at once, the rest every 20 ms."""
        if not self._subscribers:
            return
        now = time.monotonic()
        sent_at, was_busy, _ = self._sent.get(lane, _NEVER)
        turned = lane.busy != was_busy and lane.routes.num_routed == 0
        if turned or now - sent_at >= COALESCE_S:
            self._send(lane, now)
            return
        self._dirty.add(lane)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COALESCE_S, self._flush)

    def announce(self, announcement: Announcement) -> None:
        """Forward what a pod said of itself, and remember it for operators that come later."""
        line = announcement.model_dump_json().encode() + b"\n"
        self._announced[announcement.key, announcement.pod] = line
        self._push(line)

    def forget_pod(self, key: str, pod: str) -> None:
        """The pod is gone."""
        self._announced.pop((key, pod), None)

    def forget(self, lane: Lane) -> None:
        """The deployment is gone."""
        self._dirty.discard(lane)
        self._sent.pop(lane, None)

    async def stream(self, reply: Reply) -> None:
        """Answer one subscriber until it leaves (the task is cancelled then)."""
        reply.start(200, NDJSON)
        reply.write(self._render_all() or PING)
        writable = self._subscribers[reply] = asyncio.Event()
        reply.on_writable = writable.set
        try:
            while True:
                await self._ping(reply, writable)
        finally:
            del self._subscribers[reply]

    async def _ping(self, reply: Reply, writable: asyncio.Event) -> None:
        """Ping, or after a jam send everything anew: what came meanwhile was dropped."""
        writable.clear()
        try:
            async with asyncio.timeout(PING_S):
                await writable.wait()
        except TimeoutError:
            if not reply.paused:
                reply.write(PING)
            return
        reply.write(self._render_all())

    def _render_all(self) -> bytes:
        """All there is to know. Whatever was sent before, the next line of a lane may be news."""
        self._sent.clear()
        now = time.monotonic()
        lines = [demand_line(lane, now) for lane in self._lanes()]
        return b"".join([*lines, *self._announced.values()])

    def _flush(self) -> None:
        self._timer = None
        now = time.monotonic()
        dirty, self._dirty = self._dirty, set()
        for lane in dirty:
            self._send(lane, now)

    def _send(self, lane: Lane, now: float) -> None:
        """Push a line, unless it would only repeat the last one."""
        self._dirty.discard(lane)
        counts = _counts(lane)
        if self._sent.get(lane, _NEVER)[2] != counts:
            self._sent[lane] = (now, lane.busy, counts)
            self._push(demand_line(lane, now))

    def _push(self, line: bytes) -> None:
        for reply in self._subscribers:
            if not reply.paused:
                reply.write(line)
