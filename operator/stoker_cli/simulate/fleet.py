"""The replicas of a simulation: they start, serve, drain, and are paid for by the second.

Knows a simple replica, stated and not measured: prompts are served one after another at the prefill
speed, answers at the step time of the batch that the request joins. Does not know who decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stoker_operator.decide.replica import ReplicaModel

PARKED_SHARE = 0.1
"""Of a replica's cost, what a model takes that is parked in a standby which ten models share."""


@dataclass(slots=True)
class Replica:
    """One replica; instants in seconds of the simulation."""

    started_at: float
    ready_at: float
    prefill_free_at: float = 0.0
    running: int = 0
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """When a request's first token and its end come."""

    replica: Replica
    first_at: float
    end_at: float


@dataclass(slots=True)
class Spent:
    """Replica-seconds by what they went to."""

    starting: float = 0.0
    busy: float = 0.0
    idle: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.starting + self.busy + self.idle


@dataclass(slots=True)
class Fleet:
    """All replicas of one deployment."""

    model: ReplicaModel
    slots: int
    cold_start_s: float
    first_wake_s: float | None = None
    """Of the first replica where one is parked, which then costs its share while none runs."""
    replicas: list[Replica] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    starts: int = 0
    at: float = 0.0

    def advance(self, now: float) -> None:
        """Pay for the time since the last event, in which nothing changed but readiness."""
        if not self.replicas and self.first_wake_s is not None:
            self.spent.idle += PARKED_SHARE * (now - self.at)
        for replica in self.replicas:
            starting = min(now, max(self.at, replica.ready_at)) - self.at
            self.spent.starting += starting
            rest = now - self.at - starting
            if replica.running:
                self.spent.busy += rest
            else:
                self.spent.idle += rest
        self.at = now

    def resize(self, wanted: int, now: float) -> None:
        """Start or take away: those still starting first, then the emptiest, which drain."""
        staying = [replica for replica in self.replicas if not replica.draining]
        for index in range(len(staying), wanted):
            first_s = self.cold_start_s if self.first_wake_s is None else self.first_wake_s
            self.replicas.append(Replica(now, now + (self.cold_start_s if index else first_s)))
            self.starts += 1
        staying.sort(key=lambda one: (one.ready_at <= now, one.running, -one.started_at))
        for replica in staying[: max(0, len(staying) - wanted)]:
            replica.draining = True
        self.sweep()

    def sweep(self) -> None:
        """Remove what has drained."""
        self.replicas = [one for one in self.replicas if one.running or not one.draining]

    def place(self, input_tokens: int, output_tokens: int, now: float) -> Served | None:
        """Give a request to the emptiest ready replica with a free slot; nothing when none has."""
        free = [
            one
            for one in self.replicas
            if one.ready_at <= now and not one.draining and one.running < self.slots
        ]
        if not free:
            return None
        replica = min(free, key=lambda one: (one.running, one.prefill_free_at))
        replica.running += 1
        step_s = self.model.step_s + self.model.step_per_seq_s * replica.running
        steps = max(1.0, input_tokens / self.model.chunk_tokens)
        served_s = input_tokens / self.model.prefill_tokens_s
        served_s += steps * step_s if replica.running > 1 else 0.0
        first_at = max(now, replica.prefill_free_at) + served_s
        replica.prefill_free_at = first_at
        used = min(0.9, served_s / max(served_s, 1.0))
        return Served(replica, first_at, first_at + output_tokens * step_s / (1 - used))

    def count(self, now: float) -> tuple[int, int]:
        """Ready and starting replicas."""
        staying = [one for one in self.replicas if not one.draining]
        ready = sum(one.ready_at <= now for one in staying)
        return ready, len(staying) - ready
