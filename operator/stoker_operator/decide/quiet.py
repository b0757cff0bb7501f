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

    def until(self, ordered: Iterable[float], ready: Iterable[float], now: float) -> float | None:
        """Until when only what requests wait for is written; nothing where that is over.

        `ordered`, `ready`: Unix seconds.
        """
        ends = [at + self.ordered_s for at in ordered if at <= now + AHEAD_S]
        ends += [at + self.answering_s for at in ready if at <= now + AHEAD_S]
        until = max(ends, default=now)
        return until if until > now else None


USUAL = Quiet()
