"""A pool and a deployment that wakes from it, in the small world of `operator_world`.

Plays the kubelet for standbys, and the runtimes' admin ports by `FakeAdminPorts`; `settle` looks at
pool and deployments by turns until nothing more is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stoker_api import names
from stoker_api.status import WarmPoolStatus
from stoker_operator.decide.quiet import Quiet
from support.fake_cluster import FakeCluster, Manifest
from support.operator_world import KEY, NOISY, OperatorWorld, make_claim, make_deployment

POOL = "ns/shared"
WARM = {"idleTimeout": "60s", "warmPool": {"name": "shared"}}


def make_pool(generation: int = 1, **spec: Any) -> Manifest:
    """A WarmPool of one standby on the CPU; `spec` overrides parts."""
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": {"name": "shared", "namespace": "ns", "generation": generation},
        "spec": {"size": {"min": 1}, "resources": {"gpus": 0}} | spec,
    }


def make_warm(name: str = "chat", **spec: Any) -> Manifest:
    """A deployment that names the pool."""
    made = make_deployment(**{"scaling": WARM} | spec)
    return made | {"metadata": made["metadata"] | {"name": name}}


class PoolWorld(OperatorWorld):
    """See the module."""

    def __init__(self, cluster: FakeCluster | None = None, quiet: Quiet = NOISY) -> None:
        super().__init__(cluster, quiet)
        self.keys = [KEY]
        self.cluster.put(make_claim())

    def add(self, *manifests: Manifest) -> PoolWorld:
        """What users apply."""
        for manifest in manifests:
            self.cluster.put(manifest)
        return self

    async def settle(self) -> float | None:
        """Look until nothing is written and no order is on its way; when to look again."""
        looks: list[float | None] = []
        quiet = 0
        while quiet < 2:
            before = len(self.cluster.writes)
            looks = [await self._look(self.pool_reconciler.reconcile, POOL)]
            looks += [await self._look(self.reconciler.reconcile, key) for key in self.keys]
            for _ in range(8):
                await asyncio.sleep(0)
            quiet = quiet + 1 if len(self.cluster.writes) == before else 0
        return min((at for at in looks if at is not None), default=None)

    async def wait_for(self, holds: Callable[[], bool]) -> None:
        """Settle until something that takes a moment has happened."""
        for _ in range(400):
            await self.settle()
            if holds():
                return
        raise AssertionError("it did not happen")

    async def _look(self, reconcile: Any, key: str) -> float | None:
        self.cluster.show(self.snapshot, self.now)
        look_at: float | None = await reconcile(key)
        return look_at

    async def fill(self) -> None:
        """The pool's standbys are made, run and say so."""
        await self.settle()
        self.place_pods()
        await self.settle()

    async def wake(self, queued: int = 1) -> None:
        """Somebody asks; the pods that load say that they are ready, and requests run."""
        self.demand(queued=queued)
        await self.settle()
        self.place_pods()
        for pod in self.of_deployment():
            self.announce(pod)
        await self.settle()

    def run_containers(self) -> None:
        """The kubelet says that the containers of all pods run."""
        state = {"name": "runtime", "state": {"running": {}}}
        for pod in self.pods:
            self.cluster.put(pod | {"status": pod["status"] | {"containerStatuses": [state]}})

    def of_deployment(self, name: str = "chat") -> list[Manifest]:
        """Pods that serve, or load, a deployment's model."""
        return [pod for pod in self.live_pods if _label(pod, names.LABEL_DEPLOYMENT) == name]

    @property
    def standbys(self) -> list[Manifest]:
        """Pods of the pool that serve nobody."""
        return [
            pod
            for pod in self.live_pods
            if _label(pod, names.LABEL_POOL) and not _label(pod, names.LABEL_DEPLOYMENT)
        ]

    @property
    def live_pods(self) -> list[Manifest]:
        """Pods that are not on their way out."""
        return [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"]]

    @property
    def pool_status(self) -> WarmPoolStatus:
        """What the operator wrote about the pool."""
        document = self.cluster.objects["WarmPool", POOL].get("status", {})
        return WarmPoolStatus.model_validate(document)

    def pool_condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = next(c for c in self.pool_status.conditions if c.type == kind)
        return found.status, found.reason, found.message


def name_of(pod: Manifest) -> str:
    """A pod's name."""
    return str(pod["metadata"]["name"])


def owner_of(pod: Manifest) -> tuple[str, str]:
    """Kind and name of what a pod belongs to; there is always one."""
    [owner] = pod["metadata"]["ownerReferences"]
    return owner["kind"], owner["name"]


def _label(pod: Manifest, label: str) -> str:
    return str(pod["metadata"]["labels"].get(label, ""))
