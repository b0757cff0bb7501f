"""A deployment's small world for tests: a fake cluster, a clock that is a number, one reconciler.

Plays kubelet and gateway by hand: `run_pods` makes pods ready, `demand` reports requests. `restart`
replaces the operator by one that remembers nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from stoker_api import names
from stoker_api.demand import Announcement, Demand
from stoker_api.status import LLMDeploymentStatus
from stoker_operator.build.frame import PodSettings
from stoker_operator.cluster.ledger import DemandLedger
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.decide.quiet import Quiet
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.deployment import DeploymentReconciler, World
from stoker_operator.handlers.orders import Orders
from stoker_operator.handlers.pools import Pools
from stoker_operator.handlers.warmpool import WarmPoolReconciler
from support.fake_admin_ports import FakeAdminPorts
from support.fake_cluster import FakeCluster, Killed, Manifest

NOW = 1795255200.0  # 2026-11-21T10:00:00Z
KEY = "ns/chat"
NOISY = Quiet(0, 0)
"""Everything is written at once."""
WORKER = ("10.0.0.1", 8090)
POD_SETTINGS = PodSettings("cpu:1", "gpu:1", "IfNotPresent", 600, "http://10.1.1.1:8090/announce")


def make_deployment(generation: int = 1, **spec: Any) -> Manifest:
    """An LLMDeployment as an API server gives it; `spec` overrides parts."""
    model = {"source": "pvc://models/tiny"}
    base = {"model": model, "resources": {"gpus": 0}, "scaling": {"idleTimeout": "60s"}}
    wanted = base | spec
    if "replicas" in spec:
        wanted.pop("scaling")
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": "chat", "namespace": "ns", "generation": generation},
        "spec": wanted,
    }


def make_claim(name: str = "models") -> Manifest:
    """A PersistentVolumeClaim."""
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "ns"}}


TOTALS = ("arrivals", "arrived_tokens", "completed_tokens")


class OperatorWorld:
    """See the module."""

    def __init__(self, cluster: FakeCluster | None = None, quiet: Quiet = NOISY) -> None:
        self.now = NOW
        self.quiet = quiet
        self.cluster = cluster or FakeCluster()
        self.ports = FakeAdminPorts()
        self.reported = Demand(deployment=KEY, queued=0, running=0, idle_s=0, arrivals=0)
        self._ips = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        """A new operator process."""
        self.snapshot = Snapshot()
        self.ledger = DemandLedger(self.now, 10)
        self.ledger.expect({WORKER}, self.now)
        self.ledger.connect(WORKER, self.now)
        self.ledger.record(WORKER, self.reported, self.now)
        self.ledger.introduce(WORKER)
        children = Children(self.cluster, self.snapshot, b"key", "gateway.stoker.svc.cluster.local")
        self.pools = Pools(self.snapshot, Orders(self.ports), b"key", self.quiet)
        world = World(
            self.cluster,
            self.snapshot,
            self.ledger,
            children,
            POD_SETTINGS,
            "http://gateway/v1",
            self.pools,
            lambda: self.now,
        )
        self.reconciler = DeploymentReconciler(world)
        self.pool_reconciler = WarmPoolReconciler(
            self.cluster, self.snapshot, self.pools, children, lambda: POD_SETTINGS
        )
        self.pool_reconciler.clock = lambda: self.now

    def idle(self, seconds: float) -> None:
        """Nobody asks for so long."""
        self.now += seconds
        self.demand(idle_s=seconds)

    def demand(self, queued: int = 0, running: int = 0, idle_s: float = 0, **more: int) -> None:
        """What the gateway says; `more` are requests by pod, or totals of arrivals and tokens."""
        totals = {"arrivals": 1} | {name: more.pop(name) for name in TOTALS if name in more}
        self.reported = Demand(
            deployment=KEY, queued=queued, running=running, idle_s=idle_s, pods=more, **totals
        )
        self.ledger.record(WORKER, self.reported, self.now)

    async def settle(self) -> float | None:
        """Reconcile until nothing more is written; when the operator would look again."""
        while True:
            before = len(self.cluster.writes)
            self.cluster.show(self.snapshot, self.now)
            look_at = await self.reconciler.reconcile(KEY)
            if len(self.cluster.writes) == before:
                return look_at

    def place_pods(self) -> None:
        """The scheduler gives every pod that waits a node."""
        for pod in self.pods:
            if not pod["spec"].get("nodeName"):
                status = {"podIP": f"10.2.0.{next(self._ips)}", "phase": "Running"}
                spec = pod["spec"] | {"nodeName": "node-0"}
                self.cluster.put(pod | {"spec": spec, "status": status})
        self.cluster.show(self.snapshot, self.now)

    def run_pods(self, phase: str = "Ready", **announcement: Any) -> None:
        """The kubelet starts every pod that waits, and their runtimes announce themselves."""
        self.place_pods()
        for pod in self.pods:
            self.announce(pod, phase, **announcement)

    def announce(self, pod: Manifest, phase: str = "Ready", **more: Any) -> None:
        """One runtime says how it is."""
        metadata = pod["metadata"]
        instants = {"container": self.now + 0.5, "weights": self.now + 2.0}
        fields = {"phases": instants, "slots": 32} | more
        announcement = Announcement(
            namespace="ns",
            deployment="chat",
            pod=metadata["name"],
            address=f"{pod['status']['podIP']}:8000",
            phase=phase,
            **fields,
        )
        self.snapshot.announce(announcement)

    def finish_pods(self) -> None:
        """Pods on their way out have drained."""
        for pod in self.pods:
            if "deletionTimestamp" in pod["metadata"]:
                del self.cluster.objects["Pod", f"ns/{pod['metadata']['name']}"]

    @property
    def pods(self) -> list[Manifest]:
        """All pods, terminating ones as well."""
        return self.cluster.of_kind("Pod")

    @property
    def live(self) -> list[str]:
        """Names of the pods that stay."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods
            if "deletionTimestamp" not in pod["metadata"]
        ]

    @property
    def nudges(self) -> list[str | None]:
        """How often each pod was touched."""
        marks = (pod["metadata"].get("annotations", {}) for pod in self.pods)
        return [mark.get(names.ANNOTATION_NUDGED) for mark in marks]

    @property
    def status(self) -> LLMDeploymentStatus:
        """What the operator wrote."""
        document = self.cluster.objects["LLMDeployment", KEY].get("status", {})
        return LLMDeploymentStatus.model_validate(document)

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = next(c for c in self.status.conditions if c.type == kind)
        return found.status, found.reason, found.message

    @property
    def events(self) -> list[str]:
        """Reasons of the Events, oldest first."""
        events = sorted(
            self.cluster.of_kind("Event"), key=lambda e: int(e["metadata"]["resourceVersion"])
        )
        return [event["reason"] for event in events]


async def settle_each(world: OperatorWorld, steps: Sequence[Callable[[], Any]], start: int) -> int:
    """Take the steps from number `start` on, each until all is quiet; the number of the step in
    which the operator was killed, or how many there are."""
    for number, step in enumerate(steps[start:], start):
        step()
        try:
            await world.settle()
        except Killed:
            return number
    return len(steps)
