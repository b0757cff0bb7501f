"""The books of demand: what every gateway worker last reported, and what that sums up to.

Knows reports and instants (passed in); does not know sockets or what follows. A report is a lease:
when its stream breaks it still counts for a while, and when something was last asked is kept for
good, so that a gateway's restart neither stops a model in use nor forgets an idle one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from stoker_api.demand import Demand
from stoker_operator.cluster.arrivals import ArrivalBook

Worker = tuple[str, int]
"""Pod address and internal port of one gateway process."""


@dataclass(frozen=True, slots=True)
class DemandSum:
    """What all gateways together want of one deployment."""

    known: bool
    deaf: bool
    queued: int
    running: int
    active_at: float
    """When a request last came or ended; when this process began to listen, if never since."""
    oldest_at: float | None
    """Since when the request that is held longest waits."""
    pods: dict[str, int] = field(default_factory=dict)
    """Requests on each pod."""
    changes_at: float | None = None
    """When the sum changes by itself, because a report expires."""
    arrivals: int = 0
    """Requests since the workers started; falls when one leaves."""
    queued_tokens: int = 0
    arrived_tokens: int = 0
    completed_tokens: int = 0
    """The same in tokens: of held prompts, of all prompts, of all answers."""


@dataclass(slots=True)
class _Report:
    demand: Demand
    received_at: float
    expires_at: float = math.inf

    @property
    def busy(self) -> bool:
        return bool(self.demand.queued or self.demand.running)

    def active_at(self, now: float) -> float:
        """A request that waits or runs is activity, for as long as the report counts."""
        if self.busy:
            return min(now, self.expires_at)
        return self.received_at - self.demand.idle_s


class DemandLedger:
    """Reports by deployment and worker."""

    def __init__(self, now: float, lease_s: float) -> None:
        self.arrivals = ArrivalBook()
        """The last day, minute by minute."""
        self._lease_s = lease_s
        self._reports: dict[str, dict[Worker, _Report]] = defaultdict(dict)
        self._totals: dict[str, dict[Worker, tuple[int, int, int]]] = defaultdict(dict)
        self._active_at: dict[str, float] = {}
        self._began_at = now
        self._heard_at = now
        self._expected: dict[Worker, float] = {}
        self._connected: set[Worker] = set()
        self._heard: set[Worker] = set()

    @property
    def num_connected(self) -> int:
        """Workers that are heard now."""
        return len(self._connected)

    def expect(self, workers: set[Worker], now: float) -> None:
        """These workers exist; silence of one that was never heard means nothing for a while."""
        self._expected = {worker: self._expected.get(worker, now) for worker in workers}
        self._heard &= workers
        for totals in self._totals.values():
            for gone in totals.keys() - workers:
                del totals[gone]

    def connect(self, worker: Worker, now: float) -> None:
        """A worker begins to report; what it said before expires unless it says it again."""
        self._expire(worker, now)
        self._connected.add(worker)

    def introduce(self, worker: Worker) -> None:
        """A worker has told all it knew when it was connected."""
        self._heard.add(worker)

    def disconnect(self, worker: Worker, now: float) -> None:
        """A worker's stream broke."""
        self._expire(worker, now)
        self._connected.discard(worker)
        self._heard_at = now

    def record(self, worker: Worker, demand: Demand, now: float) -> None:
        """Take in a report."""
        key = demand.deployment
        self._reports[key][worker] = _Report(demand, now)
        totals = (demand.arrivals, demand.arrived_tokens, demand.completed_tokens)
        came, asked, made = self._grown(key, worker, totals)
        self.arrivals.note(key, came, (asked, made), now)

    def _grown(
        self, key: str, worker: Worker, totals: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """What came since the worker's last report; nothing of what was before this process."""
        known = self._totals[key].get(worker)
        self._totals[key][worker] = totals
        if known is None:
            known = (0, 0, 0) if worker in self._heard else totals
        if totals[0] < known[0]:
            known = (0, 0, 0)  # it began anew
        came, asked, made = (max(0, now - then) for now, then in zip(totals, known, strict=True))
        return came, asked, made

    def held(self) -> list[str]:
        """Deployments for which somebody waits."""
        found = self._reports.items()
        return [key for key, reports in found if any(r.demand.queued for r in reports.values())]

    def holding(self, key: str) -> list[Worker]:
        """Gateway processes in which somebody waits for a deployment."""
        return [worker for worker, r in self._reports.get(key, {}).items() if r.demand.queued]

    def forget(self, key: str) -> None:
        """A deployment is gone."""
        self._reports.pop(key, None)
        self._totals.pop(key, None)
        self._active_at.pop(key, None)
        self.arrivals.forget(key)

    def total(self, key: str, now: float) -> DemandSum:
        """The sum for one deployment."""
        reports = self._reports.get(key, {})
        self._settle(key, reports, now)
        pods: dict[str, int] = defaultdict(int)
        for report in reports.values():
            for pod, running in report.demand.pods.items():
                pods[pod] += running
        held = [report for report in reports.values() if report.demand.queued]
        waits = [report.received_at - report.demand.oldest_wait_s for report in held]
        return DemandSum(
            known=self._is_known(now),
            deaf=not self._connected and now > self._heard_at + self._lease_s,
            queued=sum(report.demand.queued for report in reports.values()),
            running=sum(report.demand.running for report in reports.values()),
            active_at=self._active_at.get(key, self._began_at),
            oldest_at=min(waits, default=None),
            pods=dict(pods),
            changes_at=self._changes_at(reports, now),
            arrivals=sum(report.demand.arrivals for report in reports.values()),
            queued_tokens=sum(report.demand.queued_tokens for report in reports.values()),
            arrived_tokens=sum(report.demand.arrived_tokens for report in reports.values()),
            completed_tokens=sum(report.demand.completed_tokens for report in reports.values()),
        )

    def _settle(self, key: str, reports: dict[Worker, _Report], now: float) -> None:
        """Note the latest activity, then drop what has expired."""
        for worker, report in list(reports.items()):
            active_at = report.active_at(now)
            self._active_at[key] = max(self._active_at.get(key, -math.inf), active_at)
            if report.expires_at <= now:
                del reports[worker]

    def _expire(self, worker: Worker, now: float) -> None:
        for reports in self._reports.values():
            if worker in reports:
                report = reports[worker]
                report.expires_at = min(report.expires_at, now + self._lease_s)

    def _is_known(self, now: float) -> bool:
        unheard = (at for worker, at in self._expected.items() if worker not in self._heard)
        return bool(self._heard & self._connected) and all(
            now > at + self._lease_s for at in unheard
        )

    def _changes_at(self, reports: dict[Worker, _Report], now: float) -> float | None:
        instants = [report.expires_at for report in reports.values()]
        instants += [at + self._lease_s for w, at in self._expected.items() if w not in self._heard]
        instants += [] if self._connected else [self._heard_at + self._lease_s]
        later = [at for at in instants if now < at < math.inf]
        return min(later) + 0.001 if later else None
