"""When to write what no request waits for: not beside a wake whose first answer is being made.

Knows instants at which wakes began and ended; does not know what is written. A status, an Event and
a pool's next standby keep API server, kubelet and every watcher busy: on small clusters on the very
processors that the model starts on. Measured there, an adopted replica's first token came twice as
late beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

AHEAD_S = 0.1
"""An instant further ahead than this is of another clock, and means nothing."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """How long after what."""

    ordered_s: float = 1.0
    """After a replica was ordered; a wake that lasts longer hardly notices a few writes."""
    answering_s: float = 0.5
    """After a replica became ready: the prompts that waited for it are being computed."""
    longest_s: float = 3.0
    """In all: wakes may follow each other for ever, and somebody reads what is written."""

    def begin_or_end(
        self, until: float | None, since: float | None, now: float
    ) -> tuple[float | None, float | None]:
        """`until` within bounds, and since when it is quiet; `since` as returned last time.

        Where it has been for too long it is not at this look, and may begin again after it.
        """
        if until is None or (since is not None and now >= since + self.longest_s):
            return None, None
        since = now if since is None else since
        return min(until, since + self.longest_s), since

    def until(self, ordered: Iterable[float], ready: Iterable[float], now: float) -> float | None:
        """Until when only what requests wait for is written; nothing where that is over.

        `ordered`, `ready`: Unix seconds.
        """
        ends = [at + self.ordered_s for at in ordered if at <= now + AHEAD_S]
        ends += [at + self.answering_s for at in ready if at <= now + AHEAD_S]
        until = max(ends, default=now)
        return until if until > now else None


USUAL = Quiet()
