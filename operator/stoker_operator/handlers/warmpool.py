"""WarmPools: accepted and kept, and told honestly that nothing is done for them yet.

Knows one condition; the standbys themselves come with a later release. Called by the work queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import ValidationError

from stoker_api import names
from stoker_api.conditions import Condition, ConditionType, Reason, merge_conditions
from stoker_api.status import WarmPoolStatus
from stoker_api.v1alpha1 import WarmPool
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import NotFound

MESSAGE = (
    "This release keeps no standby pods: deployments that name this pool start fresh pods. "
    "Nothing is lost by leaving the object here."
)


class WarmPoolReconciler:
    """Keeps the condition of every pool."""

    def __init__(
        self, cluster: Cluster, snapshot: Snapshot, clock: Callable[[], float] = time.time
    ) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._clock = clock

    async def reconcile(self, key: str) -> float | None:
        """One look; there is nothing to come back for."""
        manifest = self._snapshot.get("WarmPool", key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return None
        try:
            pool = WarmPool.model_validate(manifest)
        except ValidationError:
            return None
        now = self._clock()
        after = derive_pool_status(pool, now)
        if after != pool.status:
            await self._write(pool, after, now)
        return None

    async def _write(self, pool: WarmPool, status: WarmPoolStatus, now: float) -> None:
        metadata = {"name": pool.metadata.name, "namespace": pool.metadata.namespace}
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": "WarmPool",
            "metadata": metadata,
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        try:
            left = await self._cluster.apply_status(manifest)
            self._snapshot.upsert(left, "WarmPool", now)
        except NotFound:
            self._snapshot.remove({"metadata": pool.metadata.model_dump(by_alias=True)}, "WarmPool")


def derive_pool_status(pool: WarmPool, now: float) -> WarmPoolStatus:
    """Not ready, and why."""
    generation = pool.metadata.generation
    not_ready = Condition(
        type=ConditionType.READY,
        status="False",
        reason=Reason.NOT_YET_MANAGED,
        message=MESSAGE,
        observed_generation=generation,
    )
    conditions = merge_conditions(pool.status.conditions, [not_ready], now)
    return WarmPoolStatus(observed_generation=generation, conditions=conditions)
