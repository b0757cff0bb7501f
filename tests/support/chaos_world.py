"""Pools under fire: two deployments, one pool, and everything that may go wrong, in unit time.

Plays kubelet, garbage collector and runtimes; the operator's looks run side by side and give way at
every write, at each of which it may be killed or lose its lease. What must never be is checked
after every write; what must come about in the end is for the test to ask after `calm_down`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stoker_api import names
from stoker_api.conditions import format_instant
from stoker_api.demand import Announcement, Demand
from stoker_api.tokens import derive_token
from stoker_operator.cluster.admin import Answer, Call
from stoker_operator.cluster.kinds import key_of, parse_instant
from stoker_operator.cluster.pods import is_leaving
from stoker_operator.cluster.standby import admin_address, pool_of
from stoker_operator.errors import ClusterError, LeaseLost, RuntimeGone
from support.fake_admin_ports import FakeAdminPorts
from support.fake_cluster import FakeCluster, Killed, Manifest
from support.operator_world import NOW, WORKER
from support.pool_world import POOL, PoolWorld, make_pool, make_warm, owner_of

DEPLOYMENTS = ("chat", "more")
LONG_S = 70.0
"""Longer than anything is waited for: the idle timeout, distrust, refusals."""


class Runtimes(FakeAdminPorts):
    """Admin ports of the pods that there are."""

    def __init__(self, cluster: ChaosCluster) -> None:
        super().__init__()
        self._cluster = cluster

    async def call(self, call: Call) -> Answer:
        """See `AdminPorts`."""
        assert call.token == derive_token(b"key", "pool/ns/shared"), "the pool's key, nothing else"
        pod = self._cluster.at(call.address)
        if pod is None:
            raise RuntimeGone(call.address)
        return await super().call(call)


class ChaosCluster(FakeCluster):
    """Gives way before each write, stays dead after a kill, and looks at the pods each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.dead = False
        self.lost_at: int | None = None
        """The write from which on another process leads."""
        self.ports = Runtimes(self)

    def put(self, manifest: Manifest) -> Manifest:
        """See `FakeCluster`: with the time of creation."""
        metadata = {"creationTimestamp": format_instant(self.now)} | manifest["metadata"]
        return super().put(manifest | {"metadata": metadata})

    def at(self, address: str) -> Manifest | None:
        """The pod whose admin port this is."""
        pods = self.of_kind("Pod")
        return next((pod for pod in pods if admin_address(pod) == address), None)

    def _write(self, verb: str, manifest: Manifest, change: Any) -> Manifest:
        if self.dead:
            raise Killed("dead already")
        if self.lost_at is not None and len(self.writes) >= self.lost_at:
            raise LeaseLost("another one leads")
        try:
            return super()._write(verb, manifest, change)
        except Killed:
            self.dead = True
            raise
        finally:
            self.check()

    def check(self) -> None:
        """What must hold at every instant."""
        for pod in self.of_kind("Pod"):
            deployment = pod["metadata"]["labels"].get(names.LABEL_DEPLOYMENT)
            wanted = ("LLMDeployment", deployment) if deployment else ("WarmPool", "shared")
            assert owner_of(pod) == wanted, "one owner, and the one that its label says"
            order = self.ports.loaded.get(admin_address(pod))
            if order is not None:
                assert order["deployment"] == deployment, "nobody else's model, and no standby's"
                assert order["token"] == derive_token(b"key", f"runtime/ns/{deployment}")


def _give_way(name: str) -> Any:
    async def method(self: ChaosCluster, *args: Any) -> Any:
        await asyncio.sleep(0)
        return await getattr(FakeCluster, name)(self, *args)

    return method


for _name in ("apply", "apply_status", "annotate", "change", "create", "delete", "share"):
    setattr(ChaosCluster, _name, _give_way(_name))


class ChaosWorld(PoolWorld):
    """See the module."""

    cluster: ChaosCluster

    def __init__(self) -> None:
        self.asked: dict[str, Demand] = {}
        super().__init__(ChaosCluster())
        self.ports = self.cluster.ports
        self.keys = [f"ns/{name}" for name in DEPLOYMENTS]
        self.add(make_pool(), *map(make_warm, DEPLOYMENTS))
        self.restart()

    def restart(self) -> None:
        """A new operator process, which hears what gateways hold."""
        self.cluster.dead, self.cluster.kill_at, self.cluster.lost_at = False, None, None
        super().restart()
        for demand in self.asked.values():
            self.ledger.record(WORKER, demand, self.now)

    def ask(self, name: str, queued: int) -> None:
        """So many wait for a deployment."""
        known = self.asked.get(name)
        arrivals = queued + (known.arrivals if known is not None else 0)
        fields = {"queued": queued, "running": 0, "idle_s": 0, "arrivals": arrivals}
        self.asked[name] = Demand(deployment=f"ns/{name}", **fields)
        self.ledger.record(WORKER, self.asked[name], self.now)

    def pass_time(self, seconds: float) -> None:
        """Nothing happens; who is not asked becomes idle."""
        self.now += seconds
        self.cluster.now = self.now
        for name, demand in self.asked.items():
            idle_s = 0 if demand.queued else demand.idle_s + seconds
            self.asked[name] = demand.model_copy(update={"idle_s": idle_s})
            self.ledger.record(WORKER, self.asked[name], self.now)

    def rest(self) -> None:
        """Nobody asks for anything any more, for longer than pods are kept."""
        for name in self.asked:
            self.ask(name, 0)
        self.pass_time(LONG_S)

    def kill(self, after: int, taken: bool) -> None:
        """The operator dies at a write to come; whether that one takes effect."""
        self.cluster.kill_at, self.cluster.reply_lost = len(self.cluster.writes) + after, taken

    def lose_lease(self, after: int) -> None:
        """Another one leads for a moment, from a write to come on."""
        self.cluster.lost_at = len(self.cluster.writes) + after

    def refuse(self, whether: bool) -> None:
        """Whether the model can be loaded."""
        self.ports.refuse = (422, "CheckpointBroken") if whether else None

    def hit(self, which: int, act: Callable[[Manifest], object]) -> None:
        """Something happens to one of the pods, if there is one."""
        if pods := self.live_pods:
            act(pods[which % len(pods)])

    def lose_pod(self, pod: Manifest) -> None:
        """Its node is gone."""
        self.lose("Pod", pod["metadata"]["name"])

    def lose(self, kind: str, name: str) -> None:
        """Somebody deletes an object, or its node is lost."""
        self.cluster.objects.pop((kind, f"ns/{name}"), None)

    def crash(self, pod: Manifest) -> None:
        """Its container ends and is started again: a standby's process knows no model."""
        self.ports.loaded.pop(admin_address(pod), None)
        old = (pod["status"].get("containerStatuses") or [{}])[0].get("restartCount", 0)
        ended = {"terminated": {"exitCode": 1, "finishedAt": format_instant(self.now)}}
        state = {"name": "runtime", "restartCount": old + 1, "state": {"running": {}}}
        statuses = {"containerStatuses": [state | {"lastState": ended}]}
        self.cluster.put(pod | {"status": pod["status"] | statuses})

    async def live(self, rounds: int = 1) -> None:
        """Operator, kubelet, collector and runtimes do what is to be done."""
        for _ in range(rounds):
            try:
                await self._look_at_all()
            except Killed:
                await self.pools.orders.stop()
                self.restart()
            except LeaseLost:
                self.cluster.lost_at = None
                self.reconciler.reset()
                self.pools.reset()
            self._play()

    async def _look_at_all(self) -> None:
        self.cluster.show(self.snapshot, self.now)
        looks = [self.pool_reconciler.reconcile(POOL), *map(self.reconciler.reconcile, self.keys)]
        results = await asyncio.gather(*looks, return_exceptions=True)
        for _ in range(8):
            await asyncio.sleep(0)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ClusterError):
                raise result

    def _play(self) -> None:
        """Everybody else."""
        owners = {
            one["metadata"]["uid"]
            for kind in ("LLMDeployment", "WarmPool")
            for one in self.cluster.of_kind(kind)
        }
        for pod in self.pods:
            [owner] = pod["metadata"]["ownerReferences"]
            if "deletionTimestamp" in pod["metadata"] or owner["uid"] not in owners:
                self.ports.loaded.pop(admin_address(pod), None)
                self.lose("Pod", pod["metadata"]["name"])
        self.place_pods()
        self.cluster.check()
        for pod in self.live_pods:
            deployment = pod["metadata"]["labels"].get(names.LABEL_DEPLOYMENT)
            loaded = not pool_of(pod) or admin_address(pod) in self.ports.loaded
            if deployment and loaded and not is_leaving(pod):
                self._say_ready(pod, deployment)

    def _say_ready(self, pod: Manifest, deployment: str) -> None:
        [container] = pod["status"].get("containerStatuses") or [{}]
        ended = container.get("lastState", {}).get("terminated", {})
        began = ended.get("finishedAt") or pod["metadata"]["creationTimestamp"]
        started_at = parse_instant(began) + 0.5
        said = Announcement(
            namespace="ns",
            deployment=deployment,
            pod=pod["metadata"]["name"],
            address=f"{pod['status']['podIP']}:8000",
            phase="Ready",
            phases={"container": started_at, "weights": started_at + 1},
            slots=32,
        )
        self.snapshot.announce(said)

    async def calm_down(self) -> None:
        """Nothing goes wrong any more, for long enough."""
        self.ports.refuse = None
        self.ports.gone.clear()
        self.cluster.kill_at = self.cluster.lost_at = None
        for _ in range(8):
            await self.live(4)
            self.pass_time(LONG_S)
        await self.live(4)

    def serving(self, name: str) -> list[str]:
        """Pods that gateways send a deployment's requests to."""
        return [
            key_of(pod)
            for pod in self.of_deployment(name)
            if names.ANNOTATION_ADDRESS in pod["metadata"].get("annotations", {})
        ]
