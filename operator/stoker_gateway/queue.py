"""The hold queue of one deployment: first come, first served, bounded by count and bytes.

Knows order, bounds and deadlines as numbers; no clock, no event loop. `lane` moves requests between
this queue and pods; whoever waits for one is told through `Held.wake`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile

from stoker_gateway.errors import ApiError
from stoker_gateway.routing import Pod


def _ignore() -> None:
    """Nobody waits yet."""


@dataclass(slots=True, eq=False)
class Held:
    """One request, from its arrival to its end."""

    seq: int
    """Order of arrival."""
    num_bytes: int
    arrived_at: float
    budget_s: float
    """How long it may still wait, all waits together."""
    cold: bool = False
    """Nothing was ready when it came."""
    waiting_since: float = 0
    waited_s: float = 0
    """Time in the queue, finished waits only."""
    deaths: int = 0
    """Pods that took it and died before the first byte."""
    pod: Pod | None = None
    """Where it may run now."""
    error: ApiError | None = None
    """Why it will not run."""
    wake: Callable[[], None] = field(default=_ignore)
    """Called when `pod` or `error` is set."""

    @property
    def deadline(self) -> float:
        """Until when it waits, while it waits."""
        return self.waiting_since + self.budget_s

    def wait(self, now: float) -> None:
        """A wait begins."""
        self.waiting_since = now

    def end_wait(self, now: float) -> None:
        """A wait ends."""
        waited_s = max(now - self.waiting_since, 0.0)
        self.waited_s += waited_s
        self.budget_s -= waited_s


class HoldQueue:
    """Requests that wait for a free slot."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._held: OrderedDict[Held, None] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, held: Held) -> bool:
        return held in self._held

    def has_room(self, num_bytes: int) -> bool:
        """Whether one more request of this size may wait."""
        fits = self.num_bytes + num_bytes <= self._max_bytes
        return fits and len(self._held) < self._max_count

    def push(self, held: Held, now: float) -> None:
        """Wait behind all others."""
        held.wait(now)
        self._held[held] = None
        self.num_bytes += held.num_bytes

    def put_back(self, held: Held, now: float) -> None:
        """Wait again, where it stood: before all that came later, whatever the bounds."""
        older = list(takewhile(lambda other: other.seq < held.seq, self._held))
        self.push(held, now)
        for each in (held, *reversed(older)):
            self._held.move_to_end(each, last=False)

    def pop(self, now: float) -> Held | None:
        """The request that waits longest, taken out."""
        if not self._held:
            return None
        held, _ = self._held.popitem(last=False)
        self._taken(held, now)
        return held

    def leave(self, held: Held, now: float) -> bool:
        """Take one out; whether it was in."""
        if held not in self._held:
            return False
        del self._held[held]
        self._taken(held, now)
        return True

    def expire(self, now: float) -> list[Held]:
        """Take out all whose deadline has come."""
        late = [held for held in self._held if held.deadline <= now]
        for held in late:
            self.leave(held, now)
        return late

    def clear(self, now: float) -> list[Held]:
        """Take out all."""
        everyone = list(self._held)
        for held in everyone:
            self.leave(held, now)
        return everyone

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return min((held.deadline for held in self._held), default=None)

    def oldest_wait_s(self, now: float) -> float:
        """Age of the request that came first."""
        return max(now - next(iter(self._held)).arrived_at, 0.0) if self._held else 0.0

    def _taken(self, held: Held, now: float) -> None:
        self.num_bytes -= held.num_bytes
        held.end_wait(now)
