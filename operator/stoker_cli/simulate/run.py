"""Simulated time: arrivals, replicas and the operator's own `decide_scale`, event by event.

Knows the loop and what is measured in it; the rules are those of `stoker_operator.decide` and the
replicas those of `fleet`. While requests are in flight it looks once a second, else only when
somebody comes or the last decision asked to be called again, as the operator does.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field

from stoker_api.quantile import pick_quantile
from stoker_cli.bench.trace import Row
from stoker_cli.simulate.fleet import Fleet, Replica, Spent
from stoker_operator.decide.autoscaler import ScaleState, decide_scale
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.replica import ReplicaModel

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one look."""

    at: float
    arrivals: int
    """Since the sample before."""
    queued: int
    running: int
    ready: int
    starting: int
    reason: str


@dataclass(slots=True)
class Outcome:
    """What a run measured."""

    waits_s: list[float] = field(default_factory=list)
    """Seconds to the first token, in the order in which requests were taken."""
    lost: int = 0
    """Requests held for longer than `coldStartTimeout` while nothing was ready."""
    spent: Spent = field(default_factory=Spent)
    starts: int = 0
    samples: list[Sample] = field(default_factory=list)

    def attainment(self, goal_s: float) -> float:
        """Share of all requests whose first token came within the goal."""
        met = sum(wait <= goal_s for wait in self.waits_s)
        return met / max(1, len(self.waits_s) + self.lost)

    def quantile_s(self, share: float) -> float:
        """Seconds to the first token that this share stayed below."""
        return pick_quantile(self.waits_s, share) if self.waits_s else 0.0


class Simulation:
    """One run of one policy over one trace."""

    def __init__(self, policy: Policy, model: ReplicaModel, trace: list[Row]) -> None:
        self._policy = policy
        self._fleet = Fleet(model, policy.slots, policy.cold_start_s, policy.first_wake_s)
        self._arriving = deque(trace)
        self._queue: deque[Row] = deque()
        self._ends: list[tuple[float, int, int, object]] = []
        self._serial = itertools.count()
        self._state = ScaleState()
        self._wanted = policy.min_replicas if policy.fixed is None else policy.fixed
        self._fleet.replicas = [Replica(0.0, 0.0) for _ in range(self._wanted)]
        self._arrivals = self._tokens = self._made = self._since = 0
        self._running = 0
        self._active_at, self._look_at = 0.0, 0.0
        self._outcome = Outcome()

    @property
    def ended_at(self) -> float:
        """Up to when replicas were paid for."""
        return self._fleet.at

    def pay_until(self, at: float) -> None:
        """Go on paying for what still runs, so that runs that ended earlier compare."""
        self._fleet.advance(max(at, self._fleet.at))

    def run(self) -> Outcome:
        """Until every request has ended and the fleet has come to rest, or a day after."""
        rest_at = (self._arriving[-1].at_s if self._arriving else 0.0) + 86400
        while (now := self._next()) is not None and now <= rest_at:
            self._fleet.advance(now)
            self._finish(now)
            arrived = self._arrive(now)
            self._place(now)
            if now >= self._look_at or (arrived and not self._wanted):
                self._look(now)
                self._place(now)
        self._outcome.spent, self._outcome.starts = self._fleet.spent, self._fleet.starts
        return self._outcome

    def _next(self) -> float | None:
        instants = [self._look_at] if self._look_at < float("inf") else []
        instants += [self._arriving[0].at_s] if self._arriving else []
        instants += [self._ends[0][0]] if self._ends else []
        busy = bool(self._arriving or self._ends or self._queue)
        idle = not busy and not self._fleet.replicas
        return None if idle or not instants else max(self._fleet.at, min(instants))

    def _arrive(self, now: float) -> bool:
        came = False
        while self._arriving and self._arriving[0].at_s <= now:
            request = self._arriving.popleft()
            self._queue.append(request)
            self._arrivals += 1
            self._since += 1
            self._tokens += request.input_tokens
            came = True
        if came:
            self._active_at = now
            self._look_at = min(self._look_at, now + LOOK_S)
        return came

    def _place(self, now: float) -> None:
        while self._queue:
            request = self._queue[0]
            served = self._fleet.place(request.input_tokens, request.output_tokens, now)
            if served is None:
                break
            self._queue.popleft()
            self._running += 1
            self._outcome.waits_s.append(served.first_at - request.at_s)
            end = (served.end_at, next(self._serial), request.output_tokens, served.replica)
            heapq.heappush(self._ends, end)
        ready, _ = self._fleet.count(now)
        limit_s = self._policy.cold_start_timeout_s
        while not ready and self._queue and now - self._queue[0].at_s > limit_s:
            self._queue.popleft()
            self._outcome.lost += 1

    def _finish(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, _, tokens, replica = heapq.heappop(self._ends)
            replica.running -= 1  # type: ignore[attr-defined]
            self._running -= 1
            self._made += tokens
            self._active_at = now
        self._fleet.sweep()

    def _look(self, now: float) -> None:
        demand = ObservedDemand(
            known=True,
            queued=len(self._queue),
            running=self._running,
            active_at=self._active_at,
            oldest_wait_s=now - self._queue[0].at_s if self._queue else 0.0,
            arrivals=self._arrivals,
            arrived_tokens=self._tokens,
            completed_tokens=self._made,
        )
        decision = decide_scale(self._policy, self._wanted, demand, self._state, now)
        self._wanted, self._state = decision.replicas, decision.state
        self._fleet.resize(decision.replicas, now)
        ready, starting = self._fleet.count(now)
        seen = (len(self._queue), self._running, ready, starting, str(decision.reason))
        self._outcome.samples.append(Sample(now, self._since, *seen))
        self._since = 0
        later = [decision.wake_at] if decision.wake_at and decision.wake_at > now else []
        later += [now + LOOK_S] if self._queue or self._running else []
        self._look_at = min(later, default=float("inf"))
