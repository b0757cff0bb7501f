"""WarmPools are kept and told the truth."""

from __future__ import annotations

from typing import Any

from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import NotFound
from stoker_operator.handlers.warmpool import WarmPoolReconciler
from support.fake_cluster import FakeCluster


def _pool(**more: Any) -> dict[str, Any]:
    metadata = {"name": "shared", "namespace": "ns", "generation": 2}
    return {"kind": "WarmPool", "metadata": metadata, "spec": {}} | more


def _world(pool: dict[str, Any]) -> tuple[WarmPoolReconciler, FakeCluster, Snapshot]:
    cluster, snapshot = FakeCluster(), Snapshot()
    cluster.put(pool)
    cluster.show(snapshot, 1)
    return WarmPoolReconciler(cluster, snapshot, lambda: 1795255200.0), cluster, snapshot


async def test_says_once_that_pools_are_not_managed_yet() -> None:
    reconciler, cluster, snapshot = _world(_pool())
    for _ in range(3):
        await reconciler.reconcile("ns/shared")
        cluster.show(snapshot, 2)
    [condition] = cluster.objects["WarmPool", "ns/shared"]["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "NotYetManaged")
    assert condition["observedGeneration"] == 2
    assert len(cluster.writes) == 1


async def test_leaves_alone_what_is_gone_leaving_or_unreadable() -> None:
    reconciler, cluster, snapshot = _world(_pool(spec={"size": "many"}))
    await reconciler.reconcile("ns/shared")
    await reconciler.reconcile("ns/none")
    leaving = _pool()
    leaving["metadata"] = leaving["metadata"] | {"deletionTimestamp": "now"}
    cluster.put(leaving)
    cluster.show(snapshot, 2)
    await reconciler.reconcile("ns/shared")
    assert cluster.writes == []


async def test_a_pool_that_vanishes_meanwhile_is_forgotten() -> None:
    reconciler, cluster, snapshot = _world(_pool())
    cluster.refuse["WarmPool"] = NotFound("gone")
    await reconciler.reconcile("ns/shared")
    assert snapshot.get("WarmPool", "ns/shared") is None
