"""One look at one LLMDeployment: observe, decide, build, apply, report.

Knows the order of the steps and what to write first (the pod: a request waits for it); every rule
is in `decide`, every manifest in `build`. Called by the work queue for whatever has changed, and
again at the instant that it returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from stoker_api.conditions import Reason
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.metadata import derive_template_hash
from stoker_operator.build.pod import PodOrder, build_pod
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.ledger import DemandLedger, DemandSum
from stoker_operator.cluster.pods import is_leaving, observe_pod, see_owned
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.decide.autoscaler import decide_scale
from stoker_operator.decide.coldstart import estimate_cold_start_s
from stoker_operator.decide.failure import derive_failures
from stoker_operator.decide.observed import (
    Failure,
    Observed,
    ObservedDemand,
    ObservedPod,
    derive_policy,
)
from stoker_operator.decide.problem import derive_problem
from stoker_operator.decide.rollout import plan_rollout
from stoker_operator.decide.speed import derive_model
from stoker_operator.errors import Conflict, Rejected
from stoker_operator.handlers.adoption import Adoption
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.marks import Marks
from stoker_operator.handlers.memory import REJECTED_RETRY_S, Memory, recall
from stoker_operator.handlers.pools import Pools
from stoker_operator.handlers.release import Release
from stoker_operator.handlers.report import Reporter
from stoker_operator.handlers.stopwatch import Stopwatch
from stoker_operator.metrics import DEMAND_TO_POD_SECONDS

logger = logging.getLogger(__name__)
ASKING_S = 0.03
"""How soon to look again while a standby is about to answer."""


@dataclass(slots=True)
class World:
    """What all deployments share."""

    cluster: Cluster
    snapshot: Snapshot
    ledger: DemandLedger
    children: Children
    pod_settings: PodSettings
    gateway_url: str
    pools: Pools
    clock: Callable[[], float] = time.time


class DeploymentReconciler:
    """Brings deployments to where they should be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reporter = Reporter(world.cluster, world.snapshot, world.gateway_url)
        self._marks = Marks(world.cluster, world.snapshot)
        self._adoption = Adoption(world.cluster, world.snapshot, world.pools)
        self._stopwatch = Stopwatch(world.cluster, world.snapshot, world.pools)
        self._release = Release(world.cluster, world.snapshot, world.pools)
        self._memories: dict[str, Memory] = {}
        self._asked_at: dict[str, float] = {}
        self._parsed: dict[str, tuple[str, LLMDeployment, str]] = {}

    def note_demand(self, key: str) -> None:
        """Demand was heard; how long it takes to a pod is measured from here."""
        self._asked_at.setdefault(key, time.monotonic())

    def reset(self) -> None:
        """Start from the objects alone: another process may have acted meanwhile."""
        self._memories.clear()

    def forget(self, key: str) -> None:
        """The deployment is gone."""
        self._memories.pop(key, None)
        self._asked_at.pop(key, None)
        self._parsed.pop(key, None)
        self._world.ledger.forget(key)
        self._world.children.forget(key)

    async def reconcile(self, key: str) -> float | None:
        """One look; when to look again."""
        manifest = self._world.snapshot.get("LLMDeployment", key)
        if manifest is None or "deletionTimestamp" in manifest["metadata"]:
            self.forget(key)
            return None
        now = self._world.clock()
        try:
            deployment, template = self._parse(key, manifest)
        except ValidationError as error:
            await self._reporter.report_invalid(manifest, error, now)
            return None
        return await self._reconcile(deployment, template, now)

    def _parse(self, key: str, manifest: Manifest) -> tuple[LLMDeployment, str]:
        """The object and its template hash, worked out once per version: demand comes often."""
        version = manifest["metadata"]["resourceVersion"]
        known = self._parsed.get(key)
        if known is not None and known[0] == version:
            return known[1], known[2]
        deployment = LLMDeployment.model_validate(manifest)
        template = derive_template_hash(deployment.spec)
        self._parsed[key] = (version, deployment, template)
        return deployment, template

    async def _reconcile(
        self, deployment: LLMDeployment, template: str, now: float
    ) -> float | None:
        heard_at = self._asked_at.pop(deployment.key, None)
        demand = self._world.ledger.total(deployment.key, now)
        observed = self._observe(deployment, template, demand, now)
        memory = self._memory(deployment, observed)
        failed = await self._adoption.attend(deployment, template, memory, now)
        if failed is not None:
            await self._reporter.record(deployment, failed)
            observed = self._observe(deployment, template, demand, now)
        memory.failures = derive_failures(memory.failures, observed, now)
        source = deployment.spec.model.source
        cold_start_s = estimate_cold_start_s(memory.history, source)
        path = self._adoption.expect_path(deployment, self._world.pod_settings)
        first_s = None if path == "fresh" else estimate_cold_start_s(memory.history, source, path)
        late_s = estimate_cold_start_s(memory.history, source, quantile=0.9)
        memory.hear_speeds(observed, self._world.snapshot.announced)
        policy = replace(
            observed.policy,
            cold_start_s=cold_start_s,
            late_start_s=late_s,
            first_wake_s=first_s,
            model=derive_model(memory.speed),
        )
        decision = decide_scale(policy, memory.replicas, observed.demand, memory.scale, now)
        memory.replicas, memory.scale = decision.replicas, decision.state
        plan = plan_rollout(
            deployment.metadata.name, decision.replicas, observed, memory.failures, now
        )
        asked_at = now if observed.live else demand.oldest_at or now
        orders = [PodOrder(name, template, asked_at, now) for name in plan.create]
        await self._apply(deployment, orders, plan.delete, memory, now)
        if plan.create and heard_at is not None:
            DEMAND_TO_POD_SECONDS.observe(time.monotonic() - heard_at)
        pods = self._world.snapshot.pods(deployment.key)
        memory.quiet_until, memory.quiet_since = self._world.pools.quiet(
            pods, memory.quiet_since, now
        )
        nudge_at = None
        if not memory.is_quiet(now):
            nudge_at = await self._attend_pods(deployment, memory, now)
            await self._world.children.apply_services(deployment, now)
            await self._world.children.apply_budget(deployment, now)
        seen = self._observe(deployment, template, demand, now)
        refresh_at = await self._reporter.report(deployment, seen, decision, memory, now)
        instants = (decision.wake_at, plan.wake_at, demand.changes_at, refresh_at, nudge_at)
        later = (*instants, memory.quiet_until, _retry_at(memory, now))
        return min((at for at in later if at), default=None)

    def _observe(
        self, deployment: LLMDeployment, template: str, demand: DemandSum, now: float
    ) -> Observed:
        snapshot = self._world.snapshot
        pods = tuple(
            observe_pod(
                see_owned(pod, deployment.metadata.uid),
                snapshot.announced(pod["metadata"]["uid"]),
                demand.pods.get(pod["metadata"]["name"], 0),
            )
            for pod in snapshot.pods(deployment.key)
        )
        observed = Observed(
            template=template,
            generation=deployment.metadata.generation,
            policy=derive_policy(deployment.spec),
            pods=pods,
            problem=derive_problem(deployment, snapshot.claims(deployment.metadata.namespace)),
        )
        return replace(observed, demand=_observed_demand(demand, observed, now))

    def _memory(self, deployment: LLMDeployment, observed: Observed) -> Memory:
        memory = self._memories.get(deployment.key)
        if memory is None or memory.uid != deployment.metadata.uid:
            memory = recall(deployment.metadata.uid, deployment.status, observed)
            self._memories[deployment.key] = memory
        return memory

    async def _apply(
        self,
        deployment: LLMDeployment,
        orders: list[PodOrder],
        doomed: tuple[ObservedPod, ...],
        memory: Memory,
        now: float,
    ) -> None:
        generation = deployment.metadata.generation
        held_off = now < memory.rejected_until and memory.rejected_generation == generation
        try:
            if not held_off:
                await self._world.children.apply_guards(deployment)
                left = await self._adoption.adopt(
                    deployment, orders, memory, self._world.pod_settings
                )
                await asyncio.gather(*(self._create_pod(deployment, order) for order in left))
                memory.rejection = None
        except Rejected as error:
            words = f"A pod was refused: {error} Correct the cause; it is tried again."
            memory.rejection = Failure(Reason.POD_REJECTED, words)
            memory.rejected_until = now + REJECTED_RETRY_S
            memory.rejected_generation = generation
        for pod in doomed:
            key = f"{deployment.metadata.namespace}/{pod.name}"
            if not await self._release.let_go(key, now):
                await self._delete_pod(deployment, pod.name, pod.uid)

    async def _create_pod(self, deployment: LLMDeployment, order: PodOrder) -> None:
        manifest = build_pod(deployment, order, self._world.pod_settings)
        made = await self._world.cluster.apply(manifest)
        self._world.snapshot.upsert(made, "Pod", self._world.clock())
        if "deletionTimestamp" in made["metadata"]:
            raise Conflict(f"pod {order.name} is on its way out; another name is taken next")
        logger.info("made pod %s", key_of(manifest))

    async def _delete_pod(self, deployment: LLMDeployment, name: str, uid: str) -> None:
        metadata = {"namespace": deployment.metadata.namespace, "name": name, "uid": uid}
        await self._release.delete({"metadata": metadata}, self._world.clock())
        logger.info("drain pod %s/%s", metadata["namespace"], name)

    async def _attend_pods(
        self, deployment: LLMDeployment, memory: Memory, now: float
    ) -> float | None:
        """Time the wakes that have ended, and tell all gateways where ready pods answer."""
        pods = self._world.snapshot.pods(deployment.key)
        memory.timed &= {pod["metadata"]["uid"] for pod in pods}
        instants = []
        for pod in pods:
            if not is_leaving(pod):
                instants.append(await self._marks.attend(pod, now))
                await self._stopwatch.time_wake(deployment, pod, memory)
        return min((at for at in instants if at), default=None)


def _observed_demand(demand: DemandSum, observed: Observed, now: float) -> ObservedDemand:
    """Requests that still run on pods on their way out need no replica."""
    unplaced = max(0, demand.running - sum(demand.pods.values()))
    return ObservedDemand(
        known=demand.known,
        deaf=demand.deaf,
        queued=demand.queued,
        queued_tokens=demand.queued_tokens,
        running=unplaced + sum(pod.running for pod in observed.live),
        active_at=demand.active_at,
        oldest_wait_s=max(0.0, now - demand.oldest_at) if demand.oldest_at else 0.0,
        arrivals=demand.arrivals,
        arrived_tokens=demand.arrived_tokens,
        completed_tokens=demand.completed_tokens,
    )


def _retry_at(memory: Memory, now: float) -> float | None:
    if memory.asking_since:
        return now + ASKING_S
    return memory.rejected_until if memory.rejection and memory.rejected_until > now else None
