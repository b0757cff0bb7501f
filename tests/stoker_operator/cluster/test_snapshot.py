"""The copy of the cluster: newer beats older, the gone go, announcements belong to one pod."""

from __future__ import annotations

from typing import Any

from stoker_api.demand import Announcement
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.snapshot import Snapshot, deployments_using

CREATED = "2026-11-21T10:00:00Z"
AT = 1795255200.0


def _pod(version: int, uid: str = "u1", **more: Any) -> Manifest:
    metadata = {
        "namespace": "ns",
        "name": "chat-0",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
        "labels": {"stoker.dev/deployment": "chat"},
        "managedFields": ["long"],
    }
    return {"kind": "Pod", "metadata": metadata, "spec": {}} | more


def _announcement(phase: str = "Ready", **more: Any) -> Announcement:
    fields = {"namespace": "ns", "deployment": "chat", "pod": "chat-0", "address": "10.1.1.1:8000"}
    return Announcement.model_validate(fields | {"phase": phase} | more)


def test_older_news_never_replaces_newer() -> None:
    snapshot = Snapshot()
    assert snapshot.upsert(_pod(5, spec={"new": True}), "Pod", AT)
    assert not snapshot.upsert(_pod(4), "Pod", AT)
    assert not snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.pods("ns/chat")[0]["spec"] == {"new": True}
    assert "managedFields" not in snapshot.pods("ns/chat")[0]["metadata"]


def test_a_pod_of_the_same_name_starts_without_the_past_of_the_first() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5, spec={"nodeName": "n"}), "Pod", AT)
    snapshot.announce(_announcement())
    snapshot.upsert(_pod(6, uid="u2"), "Pod", AT + 60)
    assert snapshot.announced("u1") is None
    assert snapshot.announced("u2") is None
    assert snapshot.scheduled_at("u1") is None


def test_only_the_very_object_is_removed() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5, uid="u2"), "Pod", AT)
    assert not snapshot.remove(_pod(4, uid="u1"), "Pod")
    assert snapshot.remove(_pod(6, uid="u2"), "Pod")
    assert snapshot.pods("ns/chat") == []
    assert not snapshot.remove(_pod(6, uid="u2"), "Pod")


def _listed(version: int, *items: Manifest) -> Manifest:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def test_a_list_drops_what_watches_missed_but_nothing_newer_than_itself() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.replace("Pod", _listed(4), AT) == set()
    assert snapshot.replace("Pod", _listed(9), AT) == {"ns/chat-0"}
    assert snapshot.pods("ns/chat") == []
    assert snapshot.replace("Pod", _listed(12, _pod(11, uid="u2")), AT) == {"ns/chat-0"}
    assert snapshot.replace("Pod", _listed(13, _pod(11, uid="u2")), AT) == set()


def test_what_is_gone_is_not_brought_back_by_what_was_known_before() -> None:
    """By the answer to a write, or by a list from a server that is behind."""
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.remove(_pod(8), "Pod"), "as the watch says it"
    assert not snapshot.upsert(_pod(7), "Pod", AT)
    assert snapshot.replace("Pod", _listed(7, _pod(7)), AT) == set()
    assert snapshot.replace("Pod", _listed(6, _pod(5)), AT) == set()
    assert snapshot.pods("ns/chat") == []


def test_what_one_list_lacked_is_not_brought_back_by_an_older_one() -> None:
    snapshot = Snapshot()
    snapshot.replace("Pod", _listed(6, _pod(5)), AT)
    assert snapshot.replace("Pod", _listed(9), AT) == {"ns/chat-0"}
    assert snapshot.replace("Pod", _listed(7, _pod(5)), AT) == set()


def test_what_left_our_sight_comes_back_when_it_changes() -> None:
    """An object that loses the label we look for, and is given it again."""
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    snapshot.remove(_pod(6), "Pod")
    assert snapshot.upsert(_pod(7), "Pod", AT)
    assert len(snapshot.pods("ns/chat")) == 1


def test_what_is_gone_is_forgotten_when_no_list_can_know_it_any_more() -> None:
    snapshot = Snapshot()
    for version in range(10, 1000, 10):
        snapshot.upsert(_pod(version, uid=f"u{version}"), "Pod", AT)
        snapshot.remove(_pod(version + 1, uid=f"u{version}"), "Pod")
        snapshot.replace("Pod", _listed(version + 2), AT)
    assert sum(map(len, snapshot._gone.values())) == 1


def test_claims_keep_nothing_but_their_names() -> None:
    snapshot = Snapshot()
    claim = {"metadata": {"namespace": "ns", "name": "models", "uid": "c"}, "spec": {"big": 1}}
    snapshot.upsert(claim, "PersistentVolumeClaim", AT)
    assert snapshot.claims("ns") == {"models"}
    assert snapshot.claims("other") == frozenset()
    kept = snapshot.get("PersistentVolumeClaim", "ns/models")
    assert kept is not None
    assert "spec" not in kept


def test_knows_which_deployments_a_claim_concerns() -> None:
    snapshot = Snapshot()
    for name, source in (("a", "pvc://models/x"), ("b", "pvc://other"), ("c", "hf://o/models")):
        metadata = {"namespace": "ns", "name": name, "uid": name}
        manifest = {"metadata": metadata, "spec": {"model": {"source": source}}}
        snapshot.upsert(manifest, "LLMDeployment", AT)
    assert list(deployments_using(snapshot, "ns/models")) == ["ns/a"]
    assert list(deployments_using(snapshot, "elsewhere/models")) == []


def test_when_a_pod_got_its_node_is_noted_once() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.scheduled_at("u1") is None
    snapshot.upsert(_pod(6, spec={"nodeName": "n"}), "Pod", AT + 0.02)
    snapshot.upsert(_pod(7, spec={"nodeName": "n"}), "Pod", AT + 9)
    assert snapshot.scheduled_at("u1") == AT + 0.02


def test_announcements_go_forward_only() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    first, second = {"container": AT + 1}, {"container": AT + 50}
    assert snapshot.announce(_announcement("Starting", phases=first))
    assert snapshot.announce(_announcement("Ready", phases=first))
    assert not snapshot.announce(_announcement("Loading", phases=first))
    assert not snapshot.announce(_announcement("Ready", phases=first))
    assert snapshot.announce(_announcement("Starting", phases=second))
    said = snapshot.announced("u1")
    assert said is not None
    assert said.phase == "Starting"


def test_what_another_pod_of_that_name_said_is_not_believed() -> None:
    snapshot = Snapshot()
    assert not snapshot.announce(_announcement())
    snapshot.upsert(_pod(5, status={"podIP": "10.1.1.2"}), "Pod", AT)
    assert not snapshot.announce(_announcement())
    snapshot.upsert(_pod(6, status={"podIP": "10.1.1.1"}), "Pod", AT)
    assert not snapshot.announce(_announcement(phases={"container": AT - 60}))
    assert snapshot.announce(_announcement(phases={"container": AT + 1}))


def test_lists_what_there_is() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.keys("Pod") == ["ns/chat-0"]
    assert snapshot.get("Pod", "ns/none") is None
    assert not snapshot.synced


def _moved(version: int, **labels: str) -> Manifest:
    pod = _pod(version)
    return pod | {"metadata": pod["metadata"] | {"labels": {"stoker.dev/pool": "shared"} | labels}}


def test_a_pod_that_moves_is_found_where_it_is_and_says_everything_anew() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_moved(1), "Pod", AT)
    assert snapshot.pods("ns/chat") == []
    assert not snapshot.announce(_announcement()), "it serves nobody yet"
    snapshot.upsert(_moved(2, **{"stoker.dev/deployment": "chat"}), "Pod", AT)
    assert len(snapshot.pods("ns/chat")) == len(snapshot.pool_pods("ns/shared")) == 1
    assert snapshot.announce(_announcement())
    snapshot.upsert(_moved(3, **{"stoker.dev/deployment": "chat", "a": "b"}), "Pod", AT)
    assert snapshot.announced("u1") is not None, "it is still where it was"
    snapshot.upsert(_moved(4), "Pod", AT)
    assert snapshot.pods("ns/chat") == []
    assert snapshot.announced("u1") is None
    assert not snapshot.announce(_announcement()), "an echo of the model that it had"
    assert [pod["metadata"]["uid"] for pod in snapshot.all_pods()] == ["u1"]
    snapshot.remove(_moved(5), "Pod")
    assert snapshot.pool_pods("ns/shared") == []


def test_finds_the_deployments_that_name_a_pool() -> None:
    snapshot = Snapshot()
    for name, scaling in {"a": {"warmPool": {"name": "shared"}}, "b": {}, "c": None}.items():
        metadata = {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1"}
        snapshot.upsert({"metadata": metadata, "spec": {"scaling": scaling}}, "LLMDeployment", AT)
    assert [one["metadata"]["name"] for one in snapshot.of_pool("ns", "shared")] == ["a"]
    assert snapshot.of_pool("other", "shared") == []


def test_what_a_ready_pod_measures_later_replaces_what_it_measured_before() -> None:
    snapshot = Snapshot()
    snapshot.upsert(_pod(5), "Pod", AT)
    assert snapshot.announce(_announcement())
    assert snapshot.announce(_announcement(steps=64))
    assert not snapshot.announce(_announcement(steps=63)), "an echo by way of another gateway"
    said = snapshot.announced("u1")
    assert said is not None
    assert said.steps == 64
