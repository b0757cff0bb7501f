"""Times the wakes that have ended: where their seconds went, and what the next one will take.

Knows which pods have told all of their start, and asks the API server once for what only the
kubelet knows: how long it pulled the image. Runs after the pod is announced to all gateways, so
that no request waits for it.
"""

from __future__ import annotations

import logging

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.pods import read_pull_s, wake_instants
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import pool_of
from stoker_operator.decide.coldstart import derive_cold_start
from stoker_operator.errors import ClusterError
from stoker_operator.handlers.memory import Memory
from stoker_operator.handlers.pools import Pools
from stoker_operator.metrics import COLD_START_SECONDS

logger = logging.getLogger(__name__)


class Stopwatch:
    """Measures wakes."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot, pools: Pools) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._pools = pools

    async def time_wake(self, deployment: LLMDeployment, pod: Manifest, memory: Memory) -> None:
        """Record the wake of a pod that is ready, once; of one that an earlier process saw, not."""
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        announced = self._snapshot.announced(uid)
        path = self._path_of(pod)
        if uid in memory.timed or path is None or announced is None or not announced.is_ready:
            return
        memory.timed.add(uid)
        if pool := pool_of(pod):
            self._pools.touch_pool(pool)  # it may refill now
        marked = names.ANNOTATION_ADDRESS in metadata.get("annotations", {})
        instants = wake_instants(pod, announced, self._snapshot.scheduled_at(uid))
        if "decided" not in instants or (marked and deployment.status.last_cold_start):
            return
        if "scheduled" in instants:
            instants["image"] = instants["scheduled"] + await self._pull_s(pod)
        asked_at = instants.get("asked", instants["decided"])
        cold_start = derive_cold_start(asked_at, instants, path)
        memory.last_cold_start = cold_start
        memory.history = memory.history.with_total(cold_start.total, cold_start.path)
        phases = cold_start.phases.model_dump(by_alias=True, exclude_none=True)
        for phase, seconds in (phases | {"total": cold_start.total}).items():
            COLD_START_SECONDS.labels(phase, cold_start.path).observe(seconds)

    def _path_of(self, pod: Manifest) -> str | None:
        """How a pod came to its model; None while an adopted one has not told."""
        if not pool_of(pod):
            return "fresh"
        outcome = self._pools.orders.outcome(pod["metadata"]["uid"], "/load")
        return outcome.state.path or "warm" if outcome is not None else None

    async def _pull_s(self, pod: Manifest) -> float:
        """Seconds for which the kubelet pulled the image, by its own Event; 0 when it did not."""
        uid, namespace = pod["metadata"]["uid"], pod["metadata"]["namespace"]
        wanted = f"involvedObject.uid={uid},reason=Pulled"
        try:
            found = await self._cluster.list("Event", namespace, (("fieldSelector", wanted),))
        except ClusterError as error:
            logger.info("how long the image took is not known: %s", error)
            return 0.0
        return max((read_pull_s(event.get("message", "")) for event in found["items"]), default=0.0)
