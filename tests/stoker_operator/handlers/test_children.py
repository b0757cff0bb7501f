"""Secret and Services: written when needed, mended when changed, never taken from others."""

from __future__ import annotations

import base64

import pytest

from stoker_api.tokens import derive_token
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.network_policy import Release
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import ClusterError, LeaseLost
from stoker_operator.handlers.children import Children, contains
from support.builders import make_llm
from support.fake_cluster import FakeCluster

HOST = "gateway.stoker.svc.cluster.local"
LLM = make_llm()


def _children(key: bytes | None = b"key") -> tuple[Children, FakeCluster, Snapshot]:
    cluster, snapshot = FakeCluster(), Snapshot()
    return Children(cluster, snapshot, key, HOST), cluster, snapshot


async def test_the_token_is_the_one_that_gateways_derive() -> None:
    children, cluster, _ = _children()
    await children.apply_guards(LLM)
    data = cluster.objects["Secret", "ns/chat-runtime"]["data"]["token"]
    assert base64.b64decode(data).decode() == derive_token(b"key", "runtime/ns/chat")


async def test_the_secret_is_written_once_per_process_and_object() -> None:
    children, cluster, _ = _children()
    await children.apply_guards(LLM)
    await children.apply_guards(LLM)
    assert len(cluster.writes) == 1
    remade = LLM.model_copy(update={"metadata": LLM.metadata.model_copy(update={"uid": "another"})})
    await children.apply_guards(remade)
    assert len(cluster.writes) == 2
    children.forget("ns/chat")
    await children.apply_guards(remade)
    assert len(cluster.writes) == 3


async def test_without_an_internal_key_there_is_no_secret() -> None:
    children, cluster, _ = _children(key=None)
    await children.apply_guards(LLM)
    assert cluster.writes == []


async def test_pods_are_closed_to_all_but_the_release_when_that_is_wanted() -> None:
    cluster = FakeCluster()
    children = Children(cluster, Snapshot(), b"key", HOST, Release("stoker-system", "stoker"))
    await children.apply_guards(LLM)
    await children.apply_guards(LLM)
    kinds = [kind for _, kind, _ in cluster.writes]
    assert kinds == ["Secret", "NetworkPolicy"]


async def test_services_are_made_once_and_mended() -> None:
    children, cluster, snapshot = _children()
    await children.apply_services(LLM, 1)
    await children.apply_services(LLM, 1)
    assert [write[0] for write in cluster.writes] == ["create", "create"]
    tampered = dict(cluster.objects["Service", "ns/chat-pods"])
    tampered["spec"] = tampered["spec"] | {"selector": {}}
    snapshot.upsert(cluster.put(tampered), "Service", 1)
    await children.apply_services(LLM, 1)
    assert cluster.writes[-1] == ("apply", "Service", "ns/chat-pods")
    assert cluster.objects["Service", "ns/chat-pods"]["spec"]["selector"]


async def test_a_deleted_service_is_made_again() -> None:
    children, cluster, snapshot = _children()
    await children.apply_services(LLM, 1)
    gone = cluster.objects.pop(("Service", "ns/chat"))
    snapshot.remove(gone, "Service")
    children.forget("ns/chat")
    await children.apply_services(LLM, 1)
    assert ("Service", "ns/chat") in cluster.objects


async def test_a_name_that_is_taken_is_tried_once() -> None:
    children, cluster, _ = _children()
    theirs = {"kind": "Service", "metadata": {"name": "chat", "namespace": "ns"}, "spec": {"a": 1}}
    cluster.put(theirs)
    await children.apply_services(LLM, 1)
    await children.apply_services(LLM, 1)
    assert cluster.objects["Service", "ns/chat"]["spec"] == {"a": 1}
    assert len(cluster.writes) == 2


def test_contains_what_is_wanted_whatever_else_there_is() -> None:
    present = {"a": 1, "b": {"c": [{"x": 1, "y": 2}, {"x": 3}]}, "extra": None}
    assert contains(present, {"a": 1, "b": {"c": [{"x": 3}]}})
    assert not contains(present, {"a": 2})
    assert not contains(present, {"b": {"c": [{"x": 4}]}})
    assert not contains(present, {"b": [1]})
    assert not contains(present, {"a": {"z": 1}})


def _promise(least: int) -> LLMDeployment:
    return make_llm(scaling={"minReplicas": least})


async def test_a_budget_follows_what_is_promised_over_a_restart() -> None:
    children, cluster, _ = _children()
    await children.apply_budget(_promise(3), 0.0)
    await children.apply_budget(_promise(3), 1.0)
    [budget] = cluster.of_kind("PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 2
    assert len(cluster.writes) == 1
    await children.apply_budget(_promise(5), 2.0)
    [budget] = cluster.of_kind("PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 4
    later = Snapshot()
    cluster.show(later, 3.0)
    fresh = Children(cluster, later, b"key", HOST)
    await fresh.apply_budget(_promise(1), 3.0)
    assert cluster.of_kind("PodDisruptionBudget") == []
    await fresh.apply_budget(_promise(1), 4.0)
    assert len(cluster.writes) == 3


async def test_somebody_elses_budget_is_left_alone() -> None:
    children, cluster, snapshot = _children()
    metadata = {"name": "chat-runtime", "namespace": "ns"}
    cluster.put({"kind": "PodDisruptionBudget", "metadata": metadata, "spec": {"minAvailable": 9}})
    for least in (3, 0):
        await children.apply_budget(_promise(least), 0.0)
        cluster.show(snapshot, 0.0)
        await children.apply_budget(_promise(0), 1.0)
    [budget] = cluster.of_kind("PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 9


async def test_a_service_that_could_not_be_made_is_made_at_the_next_look() -> None:
    """The Lease was lost, or the API server busy: nobody else bears the name."""
    children, cluster, _ = _children()
    for error in (LeaseLost("gone"), ClusterError("timeout")):
        cluster.refuse_creates = error
        with pytest.raises(type(error)):
            await children.apply_services(LLM, 0.0)
    cluster.refuse_creates = None
    await children.apply_services(LLM, 1.0)
    assert len(cluster.of_kind("Service")) == 2
