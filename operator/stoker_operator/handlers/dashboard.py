"""What dashboards see of deployments and pools: sizes, demand, and where GPU time went.

Knows snapshot, demand and the books of GPU time, and reads them when somebody looks; decides
nothing. Only the process that leads shows them, so that sums over operators are right.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stoker_operator.cluster.ledger import DemandLedger
from stoker_operator.cluster.pods import observe_pod
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import is_standby
from stoker_operator.cluster.usage import (
    UsageBook,
    Use,
    observe_standby_use,
    observe_use,
)
from stoker_operator.decide.observed import ObservedPod


class Dashboard(Collector):
    """The families of one operator process."""

    def __init__(
        self,
        snapshot: Snapshot,
        ledger: DemandLedger,
        leads: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._snapshot = snapshot
        self._ledger = ledger
        self._leads = leads
        self._clock = clock
        self._book = UsageBook()

    def reset(self) -> None:
        """This process leads from now on: what was before, another one has counted."""
        self._book = UsageBook()

    def look(self, key: str) -> None:
        """Something about a deployment or pool of this name may have changed."""
        uses = self._uses(key)
        kinds = ("LLMDeployment", "WarmPool")
        if uses or any(self._snapshot.get(kind, key) for kind in kinds):
            self._book.look(key, uses, self._clock())
        else:
            self._book.look(key, {}, self._clock())
            self._book.forget(key)

    def collect(self) -> Iterator[Metric]:
        """All families; without samples while another process leads."""
        yield from self._sizes()
        yield from self._demands()
        yield from self._costs()

    def _keys(self, kind: str) -> list[str]:
        return self._snapshot.keys(kind) if self._leads() else []

    def _pods(self, key: str) -> Iterator[tuple[dict[str, object], ObservedPod]]:
        running = self._ledger.total(key, self._clock()).pods
        for pod in self._snapshot.pods(key):
            metadata = pod["metadata"]
            announced = self._snapshot.announced(metadata["uid"])
            yield pod, observe_pod(pod, announced, running.get(metadata["name"], 0))

    def _uses(self, key: str) -> dict[str, Use]:
        uses = {seen.uid: observe_use(pod, seen) for pod, seen in self._pods(key)}
        for pod in self._snapshot.pool_pods(key):
            if is_standby(pod):
                uses[pod["metadata"]["uid"]] = observe_standby_use(pod)
        return {uid: use for uid, use in uses.items() if use is not None}

    def _sizes(self) -> Iterator[Metric]:
        replicas = GaugeMetricFamily(
            "stoker_operator_replicas",
            "Replicas of a deployment by state: desired, ready, starting, draining, failed.",
            labels=("deployment", "state"),
        )
        for key in self._keys("LLMDeployment"):
            status = (self._snapshot.get("LLMDeployment", key) or {}).get("status", {})
            found = Counter(_state_of(seen) for _, seen in self._pods(key))
            found["desired"] = status.get("scaling", {}).get("desired", 0)
            for state in ("desired", "ready", "starting", "draining", "failed"):
                replicas.add_metric((key, state), found[state])
        yield replicas
        standbys = GaugeMetricFamily(
            "stoker_operator_pool_pods",
            "Pods of a warm pool by state: desired, standby, starting, adopted.",
            labels=("pool", "state"),
        )
        for key in self._keys("WarmPool"):
            status = (self._snapshot.get("WarmPool", key) or {}).get("status", {})
            standbys.add_metric((key, "desired"), (status.get("sizing") or {}).get("desired", 0))
            for state in ("standby", "starting", "adopted"):
                standbys.add_metric((key, state), status.get(state, 0))
        yield standbys

    def _demands(self) -> Iterator[Metric]:
        name = "stoker_operator_requests"
        words = "Requests that the gateways hold or have handed to pods, by state: queued, running."
        requests = GaugeMetricFamily(name, words, labels=("deployment", "state"))
        for key in self._keys("LLMDeployment"):
            demand = self._ledger.total(key, self._clock())
            requests.add_metric((key, "queued"), demand.queued)
            requests.add_metric((key, "running"), demand.running)
        yield requests

    def _costs(self) -> Iterator[Metric]:
        by = ("owner", "state")
        words = "by state: loading, busy, idle, warm; from a pod's node to its end."
        replica_s = CounterMetricFamily("stoker_replica_seconds", f"Pod time {words}", labels=by)
        gpu_s = CounterMetricFamily("stoker_gpu_seconds", f"Pod time times GPUs {words}", labels=by)
        for spent in self._book.total(self._clock()) if self._leads() else ():
            replica_s.add_metric((spent.owner, spent.state), spent.replica_s)
            gpu_s.add_metric((spent.owner, spent.state), spent.gpu_s)
        yield replica_s
        yield gpu_s


def _state_of(pod: ObservedPod) -> str:
    if pod.terminating:
        return "draining"
    if pod.ready:
        return "ready"
    return "failed" if pod.failed else "starting"
