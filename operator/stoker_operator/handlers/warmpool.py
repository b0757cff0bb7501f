"""One look at one WarmPool: observe, decide, build, apply, report.

Knows the order of the steps; which pods are made is decided as for a deployment (`decide.rollout`),
how many by `decide.pool_size`. Deployments take standbys by themselves (`adoption`), and the pool
refills behind them. Called by the work queue, and again at the instant that it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pydantic import ValidationError

from stoker_api import names
from stoker_api.conditions import Reason
from stoker_api.source import parse_source
from stoker_api.status import WarmPoolStatus
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.metadata import build_status, derive_pool_hash, format_pool_selector
from stoker_operator.build.standby import build_standby, locate
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.pods import is_leaving, see_owned, taken_at
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import is_standby, observe_standby, observe_waiting
from stoker_operator.decide.failure import derive_failures
from stoker_operator.decide.observed import Failure, Observed, ObservedPod, Policy
from stoker_operator.decide.pool import derive_need, find_misfit, next_refill_at
from stoker_operator.decide.pool_size import (
    CPU_SHARE,
    GPU_SHARE,
    LOOK_S,
    PoolPolicy,
    decide_pool_size,
    record_wakes,
)
from stoker_operator.decide.pool_status import PoolSources, derive_pool_status, keep_sizing
from stoker_operator.decide.rollout import pick_victims, plan_rollout
from stoker_operator.errors import NotFound, Rejected
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.memory import REJECTED_RETRY_S
from stoker_operator.handlers.pools import PoolMemory, Pools
from stoker_operator.handlers.removal import EMPTY_GRACE_S, delete_pod

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a pool's standbys are made from, and for whom."""

    template: str
    claims: frozenset[str]
    missing: tuple[str, ...]
    deployments: tuple[LLMDeployment, ...]


class WarmPoolReconciler:
    """Brings pools to where they should be."""

    def __init__(
        self,
        cluster: Cluster,
        snapshot: Snapshot,
        pools: Pools,
        children: Children,
        settings: Callable[[], PodSettings],
    ) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._pools = pools
        self._children = children
        self._settings = settings
        self.clock: Callable[[], float] = time.time

    async def reconcile(self, key: str) -> float | None:
        """One look; when to look again."""
        manifest = self._snapshot.get("WarmPool", key)
        self._pools.orders.keep({pod["metadata"]["uid"] for pod in self._snapshot.all_pods()})
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self._pools.forget(key)
            self._children.forget(f"pool/{key}")
            await self._delete(self._pools.waiting(key), self.clock())
            return None
        try:
            pool = WarmPool.model_validate(manifest)
        except ValidationError as error:
            logger.warning("pool %s cannot be read: %s", key, error)
            return None
        return await self._reconcile(key, pool, self.clock())

    async def _reconcile(self, key: str, pool: WarmPool, now: float) -> float | None:
        memory = self._pools.recall(key, pool.metadata.uid, pool.status, now)
        wish = self._observe_wish(pool)
        memory.template = wish.template
        observed = self._observe(key, pool, wish)
        self._measure_refills(memory, observed, now)
        policy = _derive_policy(pool)
        memory.sizing = decide_pool_size(policy, memory.wakes, memory.sizing.desired, now)
        memory.failures = derive_failures(memory.failures, observed, now)
        desired, name = memory.sizing.desired, pool.metadata.name
        plan = plan_rollout(name, desired, observed, memory.failures, now)
        pods = self._snapshot.pool_pods(key)
        quiet_until, memory.quiet_since = self._pools.quiet(pods, memory.quiet_since, now)
        refill_at = next_refill_at(self._loading_since(key), now) or quiet_until
        create = () if refill_at is not None else plan.create
        refused_before = memory.rejection is not None and now >= memory.rejected_until
        await self._apply(pool, wish, create, memory, now)
        give_way = refused_before and memory.rejection is not None
        doomed = {pod.uid for pod in (*plan.delete, *(_pick_old(observed) if give_way else ()))}
        going = [pod for pod in self._pools.waiting(key) if pod["metadata"]["uid"] in doomed]
        await self._delete(going, now)
        if quiet_until is None:
            await self._report(key, pool, wish, memory, now)
        again_at = now + LOOK_S if desired > policy.least else None
        retry_at = memory.rejected_until if memory.rejection else None
        waits_until = refill_at if plan.create else quiet_until
        instants = (again_at, plan.wake_at, retry_at, waits_until)
        return min((at for at in instants if at is not None and at > now), default=None)

    def _loading_since(self, key: str) -> Iterator[float]:
        """When pods were taken that have not said yet that they are ready."""
        for pod in self._snapshot.pool_pods(key):
            announced = self._snapshot.announced(pod["metadata"]["uid"])
            ready = announced is not None and announced.is_ready
            if _serves(pod) and not ready and not is_leaving(pod):
                yield taken_at(pod)

    def _observe_wish(self, pool: WarmPool) -> _Wish:
        """The claims that standbys mount: of `preload`, and of every deployment of the pool."""
        deployments = tuple(self._deployments(pool))
        wanted = [*pool.spec.preload, *(one.spec.model.source for one in deployments)]
        sources = [parse_source(text) for text in dict.fromkeys(wanted)]
        present = self._snapshot.claims(pool.metadata.namespace)
        claims = frozenset(s.location for s in sources if s.scheme == "pvc") & present
        missing = tuple(f"{s} is on no claim here" for s in sources if s.location not in claims)
        return _Wish(derive_pool_hash(pool.spec, claims), claims, missing, deployments)

    def _deployments(self, pool: WarmPool) -> list[LLMDeployment]:
        found = []
        for manifest in self._snapshot.of_pool(pool.metadata.namespace, pool.metadata.name):
            try:
                found.append(LLMDeployment.model_validate(manifest))
            except ValidationError:
                logger.debug("%s cannot be read, and wants nothing of a pool", key_of(manifest))
        return found

    def _observe(self, key: str, pool: WarmPool, wish: _Wish) -> Observed:
        owned = [see_owned(pod, pool.metadata.uid) for pod in self._pools.waiting(key)]
        pods = tuple(observe_waiting(pod, self._pools.said(pod)) for pod in owned)
        others = (pod for pod in self._snapshot.pool_pods(key) if not is_standby(pod))
        return Observed(
            template=wish.template,
            generation=pool.metadata.generation,
            policy=Policy(),
            pods=pods,
            taken=frozenset(pod["metadata"]["name"] for pod in others),
        )

    def _measure_refills(self, memory: PoolMemory, observed: Observed, now: float) -> None:
        for pod in observed.live:
            made_at = memory.made_at.pop(pod.uid, None) if pod.ready else None
            if made_at is not None:
                memory.wakes = memory.wakes.with_refill(now - made_at)
        present = {pod.uid for pod in observed.live}
        memory.made_at = {uid: at for uid, at in memory.made_at.items() if uid in present}

    async def _apply(
        self, pool: WarmPool, wish: _Wish, create: tuple[str, ...], memory: PoolMemory, now: float
    ) -> None:
        if now < memory.rejected_until or not create:
            return
        try:
            await self._children.apply_pool_guards(pool)
            await asyncio.gather(*(self._create(pool, wish, name, memory) for name in create))
            memory.rejection = None
        except Rejected as error:
            words = f"A standby was refused: {error} Correct the cause; it is tried again."
            memory.rejection = Failure(Reason.POD_REJECTED, words)
            memory.rejected_until = now + REJECTED_RETRY_S

    async def _create(self, pool: WarmPool, wish: _Wish, name: str, memory: PoolMemory) -> None:
        """Created, never applied: a name may still be that of a pod that serves somebody."""
        manifest = build_standby(pool, name, wish.template, wish.claims, self._settings())
        made = await self._cluster.create(manifest)
        now = self.clock()
        self._snapshot.upsert(made, "Pod", now)
        memory.made_at[made["metadata"]["uid"]] = now
        logger.info("made standby %s", key_of(manifest))

    async def _delete(self, doomed: list[Manifest], now: float) -> None:
        """Only while nobody has taken them: the version that was looked at is a precondition."""
        for pod in doomed:
            if pod["metadata"]["uid"] in self._pools.taking:
                continue
            if await delete_pod(self._cluster, self._snapshot, pod, now, EMPTY_GRACE_S):
                logger.info("delete standby %s", key_of(pod))

    async def _report(
        self, key: str, pool: WarmPool, wish: _Wish, memory: PoolMemory, now: float
    ) -> None:
        pods = self._snapshot.pool_pods(key)
        sources = PoolSources(
            before=pool.status,
            observed=self._observe(key, pool, wish),
            sizing=keep_sizing(pool.status.sizing, memory.sizing),
            adopted=sum(_serves(pod) for pod in pods),
            selector=format_pool_selector(pool.metadata.name),
            wakes=record_wakes(memory.wakes),
            failures=memory.failures,
            rejection=memory.rejection,
            missing=wish.missing,
            unfit=tuple(self._find_unfit(pool, wish)),
        )
        after = derive_pool_status(sources, now)
        if after != pool.status:
            await self._write(pool, after, now)

    def _find_unfit(self, pool: WarmPool, wish: _Wish) -> list[str]:
        """Deployments that can adopt no standby of this spec; missing claims are told elsewhere."""
        settings = self._settings()
        manifest = build_standby(pool, "", wish.template, wish.claims, settings)
        standby = observe_standby(manifest, None)
        found = []
        for deployment in wish.deployments:
            spec = deployment.spec
            image = settings.pick_image(spec.engine.image, spec.resources)
            need = derive_need(deployment, image, locate(spec.model.parsed_source))
            missing = replace(standby, claims=standby.claims | {need.claim})
            if why := find_misfit(need, missing):
                found.append(f"{deployment.metadata.name}: {why}")
        return found

    async def _write(self, pool: WarmPool, status: WarmPoolStatus, now: float) -> None:
        metadata = pool.metadata.model_dump(by_alias=True)
        try:
            left = await self._cluster.apply_status(build_status("WarmPool", metadata, status))
            self._snapshot.upsert(left, "WarmPool", now)
        except NotFound:
            self._snapshot.remove({"metadata": metadata}, "WarmPool")


def _pick_old(observed: Observed) -> tuple[ObservedPod, ...]:
    """A standby of an old template, to make way for its successor where a quota refuses both."""
    old = [pod for pod in observed.live if pod.template != observed.template]
    return pick_victims(old, 1, observed.template)


def _derive_policy(pool: WarmPool) -> PoolPolicy:
    size = pool.spec.size
    share = float(pool.spec.resources.gpus) * GPU_SHARE or CPU_SHARE
    return PoolPolicy(size.min, size.min if size.max is None else size.max, share)


def _serves(pod: Manifest) -> bool:
    labels = pod["metadata"].get("labels", {})
    return names.LABEL_DEPLOYMENT in labels and "deletionTimestamp" not in pod["metadata"]
