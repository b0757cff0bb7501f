"""The way back: a pod that a deployment lets go forgets its model and is a standby again.

Knows the order of the writes and that each is safe to repeat; when a pod is worth having back is in
`decide.pool`. What runs on it ends first: `/unload` refuses what is new, and answers at the end.
"""

from __future__ import annotations

import logging

from stoker_api import names
from stoker_api.v1alpha1 import WarmPool
from stoker_operator.build.adoption import build_return
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import pool_of
from stoker_operator.decide.pool import is_worth_returning
from stoker_operator.errors import Conflict, NotFound
from stoker_operator.handlers.pools import Pools
from stoker_operator.handlers.removal import EMPTY_GRACE_S, delete_pod

logger = logging.getLogger(__name__)


class Release:
    """Pods that go back to their pools."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot, pools: Pools) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._pools = pools

    async def let_go(self, key: str, now: float) -> bool:
        """Let the pod `namespace/name` go back, if it is a pool's, serves and is wanted there;
        whether it goes."""
        pod = self._snapshot.get("Pod", key)
        if pod is None or not pool_of(pod) or not self._is_wanted(pod):
            return False
        if names.ANNOTATION_ADDRESS not in pod["metadata"].get("annotations", {}):
            return False
        mark: dict[str, str | None] = {names.ANNOTATION_RELEASED_AT: f"{now:.6f}"}
        try:
            left = await self._cluster.annotate("Pod", pod["metadata"], mark)
        except (NotFound, Conflict):
            return False
        self._snapshot.upsert(left, "Pod", now)
        logger.info("let pod %s go back to pool %s", key, pool_of(pod))
        await self.see_off(left, now)
        return True

    async def see_off(self, pod: Manifest, now: float) -> None:
        """See that a pod forgets its model, then hand it back."""
        outcome = self._pools.order(pod, "/unload")
        if outcome is None:
            return
        if outcome.failure is not None or not self._is_wanted(pod):
            await self.delete(pod, now, EMPTY_GRACE_S if outcome.failure is None else None)
            return
        manifest = self._snapshot.get("WarmPool", pool_of(pod))
        assert manifest is not None, "a pool that wants it is there"
        change = build_return(WarmPool.model_validate(manifest), pod)
        try:
            left = await self._cluster.change(change)
            self._snapshot.upsert(left, "Pod", now)
            logger.info("returned %s to pool %s", key_of(pod), pool_of(pod))
        except (NotFound, Conflict):
            return  # the watch brings what it is now
        self._pools.touch_pool(pool_of(pod))

    async def delete(self, pod: Manifest, now: float, grace_s: int | None = None) -> None:
        """Delete the very pod; it no longer counts. `grace_s`: else what its spec says."""
        metadata = {key: pod["metadata"][key] for key in ("namespace", "name", "uid")}
        await delete_pod(self._cluster, self._snapshot, {"metadata": metadata}, now, grace_s)

    def _is_wanted(self, pod: Manifest) -> bool:
        key = pool_of(pod)
        memory, manifest = self._pools.known(key), self._snapshot.get("WarmPool", key)
        if memory is None or manifest is None or "deletionTimestamp" in manifest["metadata"]:
            return False
        template = pod["metadata"]["labels"].get(names.LABEL_POOL_TEMPLATE, "")
        return is_worth_returning(
            template, memory.template, self._pools.standbys(key), memory.sizing.desired
        )
