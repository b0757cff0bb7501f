"""Replicas out of warm pools: take a standby and have it load.

Knows the order of the writes and that each is safe to repeat; which standby fits is in
`decide.pool`, the way back in `release`. Two marks on the pod say how far things are, so one that
was killed goes on at its next look: the deployment's label (it is ours, the order to load is sent
until it is answered) and `stoker.dev/released-at` (it is let go, `/unload` is sent).

    standby ─relabel→ ours ─/load→ Ready (announced by the pod itself) ─mark→ released ─/unload→
    standby, or deleted where the pool does not want it or anything failed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Sequence

from stoker_api import names
from stoker_api.conditions import Reason
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.adoption import build_adoption, build_load, build_shared_key
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.pod import PodOrder
from stoker_operator.build.standby import locate
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.pods import find_failure
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import admin_address, pool_of
from stoker_operator.decide.coldstart import ColdStartHistory, estimate_cold_start_s
from stoker_operator.decide.event import Note
from stoker_operator.decide.pool import (
    Need,
    derive_need,
    expect_path,
    may_soon_have,
    pick_standbys,
)
from stoker_operator.errors import Conflict, NotFound
from stoker_operator.handlers.memory import Memory
from stoker_operator.handlers.pools import Pools
from stoker_operator.handlers.release import Release
from stoker_operator.handlers.removal import EMPTY_GRACE_S

logger = logging.getLogger(__name__)

ANSWER_S = 0.5
"""A standby that this process has never heard of is waited for so long at most."""
DISTRUST_S = 60.0
"""After a standby failed, replicas are started fresh for this long."""


class Adoption:
    """What a deployment does with pools."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot, pools: Pools) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._pools = pools
        self._release = Release(cluster, snapshot, pools)

    async def adopt(
        self,
        deployment: LLMDeployment,
        orders: Sequence[PodOrder],
        memory: Memory,
        settings: PodSettings,
    ) -> list[PodOrder]:
        """Take standbys for as many orders as can be; the orders that are left."""
        key = pool_key(deployment)
        if not orders or key is None:
            return list(orders)
        need = _need(deployment, settings)
        now = orders[0].decided_at
        standbys = self._pools.standbys(key) if now >= memory.distrusted_until else []
        picked = pick_standbys(need, standbys, len(orders))
        if len(picked) < len(orders) and may_soon_have(need, standbys):
            memory.asking_since = memory.asking_since or now
            if now < memory.asking_since + ANSWER_S:
                return []
        memory.asking_since = 0.0
        if (pool := self._pools.known(key)) is not None:
            saved_s = _saved_s(memory.history, deployment.spec.model.source)
            pool.wakes = pool.wakes.with_wakes(len(orders), saved_s, now)
        uids = {one.uid for one in picked}
        pods = [pod for pod in self._pools.waiting(key) if pod["metadata"]["uid"] in uids]
        self._pools.taking |= uids
        try:
            taken = await asyncio.gather(
                *(self._take(deployment, *pair) for pair in zip(pods, orders, strict=False))
            )
        finally:
            self._pools.taking -= uids
        self._pools.touch_pool(key)
        return [order for order, got in itertools.zip_longest(orders, taken) if not got]

    def expect_path(self, deployment: LLMDeployment, settings: PodSettings) -> str:
        """How the next replica would wake."""
        key = pool_key(deployment)
        if key is None:
            return "fresh"
        return expect_path(_need(deployment, settings), self._pools.standbys(key))

    async def attend(
        self, deployment: LLMDeployment, template: str, memory: Memory, now: float
    ) -> Note | None:
        """Go on with pods of pools that are ours or let go; what failed, if something did."""
        failed = None
        pods = self._snapshot.pods(deployment.key)
        memory.shared &= {pod["metadata"]["uid"] for pod in pods}
        for pod in pods:
            metadata = pod["metadata"]
            if not pool_of(pod) or "deletionTimestamp" in metadata:
                continue
            if not memory.is_quiet(now):
                await self._share_key(pod, memory)
            if names.ANNOTATION_RELEASED_AT in metadata.get("annotations", {}):
                await self._release.see_off(pod, now)
            elif metadata["labels"].get(names.LABEL_TEMPLATE) == template:
                failed = await self._see_in(deployment, pod, memory, now) or failed
        return failed

    async def _share_key(self, pod: Manifest, memory: Memory) -> None:
        """Have the pool's key outlive the pool, once per pod and process."""
        uid = pod["metadata"]["uid"]
        if uid in memory.shared or self._pools.token("") is None:
            return
        memory.shared.add(uid)
        try:
            await self._cluster.share(build_shared_key(pod))
        except NotFound:
            logger.warning("%s cannot start again: its pool's key is gone", key_of(pod))

    async def _take(self, deployment: LLMDeployment, pod: Manifest, order: PodOrder) -> bool:
        """One write that only one of two can win; then the order to load, not waited for."""
        try:
            left = await self._cluster.change(build_adoption(deployment, pod, order))
        except (NotFound, Conflict) as error:
            logger.info("standby %s went to somebody else: %s", key_of(pod), error)
            return False
        self._snapshot.upsert(left, "Pod", order.decided_at)
        logger.info("adopted %s for %s", key_of(pod), deployment.key)
        self._load(deployment, left)
        return True

    def _load(self, deployment: LLMDeployment, pod: Manifest) -> tuple[str, str] | None:
        metadata = deployment.metadata
        token = self._pools.token(names.runtime_purpose(metadata.namespace, metadata.name))
        body = json.dumps(build_load(deployment, token), sort_keys=True)
        outcome = self._pools.order(pod, "/load", body) if admin_address(pod) else None
        return outcome.failure if outcome is not None else None

    async def _see_in(
        self, deployment: LLMDeployment, pod: Manifest, memory: Memory, now: float
    ) -> Note | None:
        """See that it loads; a pod that could not is given up, whatever the cause.

        One that serves is told nothing: the order of a newer operator may differ, and would fail.
        """
        announced = self._snapshot.announced(pod["metadata"]["uid"])
        marked = names.ANNOTATION_ADDRESS in pod["metadata"].get("annotations", {})
        if marked and find_failure(pod, announced) is None:
            return None
        failure = self._load(deployment, pod)
        if failure is None:
            return None
        memory.distrusted_until = now + DISTRUST_S
        await self._release.delete(pod, now, EMPTY_GRACE_S)
        reason, words = failure
        message = f"Standby {pod['metadata']['name']} could not load the model ({reason}): {words}"
        return Note("Warning", Reason.ADOPTION_FAILED, f"{message} A fresh pod is started.")


def pool_key(deployment: LLMDeployment) -> str | None:
    """`namespace/name` of the pool that a deployment wakes from."""
    scaling = deployment.spec.autoscaling
    if scaling is None or scaling.warm_pool is None:
        return None
    return f"{deployment.metadata.namespace}/{scaling.warm_pool.name}"


def _need(deployment: LLMDeployment, settings: PodSettings) -> Need:
    spec = deployment.spec
    image = settings.pick_image(spec.engine.image, spec.resources)
    return derive_need(deployment, image, locate(spec.model.parsed_source))


def _saved_s(history: ColdStartHistory, source: str) -> float:
    """What a standby saves a wake, as measured or guessed."""
    fresh_s = estimate_cold_start_s(history, source)
    return fresh_s - estimate_cold_start_s(history, source, "warm")
