"""Pods as kubelet, scheduler and runtime describe them."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_api.demand import Announcement
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.pods import observe_pod, read_pull_s, wake_instants, wanted_address

AT = 1795255200.0
READY = {"type": "Ready", "status": "True"}


def _pod(
    status: Manifest | None = None, node: str = "n", marks: dict[str, str] | None = None
) -> Manifest:
    metadata = {
        "namespace": "ns",
        "name": "chat-0",
        "uid": "u",
        "creationTimestamp": "2026-11-21T10:00:00Z",
        "labels": {"stoker.dev/template": "abc"},
        "annotations": marks or {},
    }
    spec = {"nodeName": node, "containers": [{"image": "runtime:1"}]}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def _container(**state: Any) -> Manifest:
    return {"containerStatuses": [{"name": "runtime"} | state]}


def _said(phase: str, **more: Any) -> Announcement:
    fields = {"namespace": "ns", "deployment": "chat", "pod": "chat-0", "address": "10.1.1.1:8000"}
    return Announcement.model_validate(fields | {"phase": phase} | more)


def test_a_starting_pod() -> None:
    pod = observe_pod(_pod(), _said("Loading"), running=2)
    assert (pod.template, pod.created_at, pod.running) == ("abc", AT, 2)
    assert pod.scheduled
    assert not pod.ready
    assert not pod.terminating
    assert pod.failure is None


def test_announcements_are_believed_before_the_kubelet() -> None:
    assert observe_pod(_pod(), _said("Ready"), 0).ready
    assert not observe_pod(_pod({"conditions": [READY]}), _said("Loading"), 0).ready
    assert observe_pod(_pod({"conditions": [READY]}), None, 0).ready
    assert not observe_pod(_pod(), None, 0).ready


def test_an_unschedulable_pod_repeats_the_schedulers_words() -> None:
    waiting = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes",
        "lastTransitionTime": "2026-11-21T10:00:05Z",
    }
    pod = observe_pod(_pod({"conditions": [waiting]}, node=""), None, 0)
    assert (pod.unschedulable, pod.unschedulable_at, pod.scheduled) == ("0/1 nodes", AT + 5, False)
    assert observe_pod(_pod({"conditions": [waiting]}), None, 0).unschedulable == ""


ENDED = {"exitCode": 3, "message": "boom", "finishedAt": "2026-11-21T10:00:30Z"}
FAILURES: dict[str, tuple[Manifest, Announcement | None, str, bool, str]] = {
    "pull": (
        _container(state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
        None,
        "ImagePullFailed",
        False,
        "runtime:1",
    ),
    "setup": (
        _container(state={"waiting": {"reason": "CreateContainerConfigError"}}),
        None,
        "ContainerCrashed",
        False,
        "CreateContainerConfigError",
    ),
    "said so": (
        _container(state={"running": {}}),
        _said("Failed", reason="CheckpointBroken", message="truncated"),
        "CheckpointBroken",
        True,
        "truncated",
    ),
    "said little": ({}, _said("Failed"), "EngineCrashed", True, "kubectl logs chat-0"),
    "crashed": (
        _container(lastState={"terminated": ENDED}, state={"waiting": {"reason": "CrashLoop"}}),
        _said("Ready", phases={"container": AT + 2}),
        "ContainerCrashed",
        False,
        "code 3: boom",
    ),
    "killed for memory": (
        _container(state={"terminated": ENDED | {"reason": "OOMKilled"}}),
        None,
        "OutOfMemory",
        False,
        "--previous",
    ),
    "evicted": (
        {"phase": "Failed", "reason": "Evicted", "message": "low on disk"},
        _said("Ready"),
        "ContainerCrashed",
        True,
        "Evicted low on disk",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_named_with_what_is_known(case: str) -> None:
    status, said, reason, final, words = FAILURES[case]
    pod = observe_pod(_pod(status), said, 0)
    assert pod.failed
    assert pod.failure is not None
    assert (pod.failure.reason, pod.failure.final) == (reason, final)
    assert words in pod.failure.message
    assert pod.failure.before_start is (case in ("pull", "setup"))
    assert pod.started is (case not in ("pull", "setup", "evicted") or said is not None)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (_container(lastState={"terminated": ENDED}, ready=True), None),
        (
            _container(lastState={"terminated": ENDED}),
            _said("Starting", phases={"container": AT + 31}),
        ),
    ],
    ids=["ready-again", "started-again"],
)
def test_a_container_that_came_back_has_not_failed(status: Manifest, said: Any) -> None:
    assert observe_pod(_pod(status), said, 0).failure is None


MARKED = {"stoker.dev/address": "10.1.1.1:8000"}


@pytest.mark.parametrize(
    ("pod", "said", "address"),
    [
        (_pod(), _said("Ready"), "10.1.1.1:8000"),
        (_pod(marks=MARKED), _said("Failed"), None),
        (_pod(marks=MARKED), _said("Starting"), None),
        (_pod(marks=MARKED), _said("Draining"), "10.1.1.1:8000"),
        (_pod(marks=MARKED), None, "10.1.1.1:8000"),
        (_pod({"conditions": [READY], "podIP": "10.1.1.9"}), None, "10.1.1.9:8000"),
        (_pod({"conditions": [READY], "podIP": "fd00::9"}), None, "[fd00::9]:8000"),
        (_pod({"conditions": [READY], "podIP": "10.1.1.9"}, marks=MARKED), None, "10.1.1.1:8000"),
        (_pod({"podIP": "10.1.1.9"}), None, None),
    ],
)
def test_a_pod_is_marked_where_it_answers(pod: Manifest, said: Any, address: str | None) -> None:
    assert wanted_address(pod, said) == address


def test_the_instants_of_a_wake() -> None:
    marks = {"stoker.dev/asked-at": "100.0", "stoker.dev/decided-at": "100.5"}
    placed = {"type": "PodScheduled", "lastTransitionTime": "2026-11-21T10:00:00Z"}
    pod = _pod({"conditions": [placed]}, marks=marks)
    said = _said("Ready", phases={"container": 101.0})
    seen = wake_instants(pod, said, 100.7)
    assert seen == {"asked": 100.0, "decided": 100.5, "scheduled": 100.7, "container": 101.0}
    assert wake_instants(pod, said, None)["scheduled"] == AT
    assert wake_instants(_pod(), said, None) == {"container": 101.0}


def _adopted(status: Manifest | None = None, **marks: str) -> Manifest:
    pod = _pod(status, marks={"stoker.dev/decided-at": f"{AT + 100:.6f}"} | marks)
    labels = pod["metadata"]["labels"] | {"stoker.dev/pool": "shared"}
    return pod | {"metadata": pod["metadata"] | {"labels": labels}}


def test_an_adopted_pod_is_as_old_as_its_adoption() -> None:
    assert observe_pod(_adopted(), None, 0).created_at == AT + 100
    assert "scheduled" not in wake_instants(_adopted(), _said("Ready"), AT + 1)


def test_of_an_adopted_pod_only_its_own_words_and_our_mark_mean_ready() -> None:
    stale = {"conditions": [READY], "podIP": "10.1.1.1"}
    assert not observe_pod(_adopted(stale), None, 0).ready
    assert wanted_address(_adopted(stale), None) is None
    marked = _adopted(stale, **{"stoker.dev/address": "10.1.1.1:8000"})
    assert observe_pod(marked, None, 0).ready
    assert not observe_pod(marked, _said("Loading"), 0).ready
    assert observe_pod(_adopted(), _said("Ready"), 0).ready


def test_a_crash_before_the_adoption_concerned_somebody_else() -> None:
    crashed = _container(lastState={"terminated": ENDED})
    assert observe_pod(_adopted(crashed), None, 0).failure is None
    later = ENDED | {"finishedAt": "2026-11-21T10:05:00Z"}
    assert observe_pod(_adopted(_container(lastState={"terminated": later})), None, 0).failure


def test_a_pod_that_was_let_go_is_leaving() -> None:
    assert observe_pod(_adopted(**{"stoker.dev/released-at": "1"}), None, 0).terminating


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ('Successfully pulled image "a:1" in 1.5s (2.25s including waiting). Image size: 7.', 2.25),
        ('Successfully pulled image "a:1" in 345ms (345ms including waiting)', 0.345),
        ('Successfully pulled image "a:1" in 1m2.5s', 62.5),
        ('Successfully pulled image "a in 3s" in 1h0m1s (1h0m2s including waiting).', 3602.0),
        ('Container image "a:1" already present on machine', 0.0),
        ("", 0.0),
    ],
)
def test_reads_how_long_the_kubelet_pulled(words: str, seconds: float) -> None:
    assert read_pull_s(words) == pytest.approx(seconds)
