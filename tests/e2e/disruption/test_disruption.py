"""Pods that somebody else takes away: evicted, drained with their node, or lost with short notice.

The stub tells slowly what it was told, so that streams are under way when it happens.
"""

import json
import time
from typing import Any

import pytest

from e2e.harness.kubectl import Kubectl
from e2e.stage import specs
from e2e.stage.asks import finish
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e

SLOW = "--stub-token-delay=700ms"
"""An answer of 16 tokens takes 11 s, one of 8 half of that."""


def _evict(kubectl: Kubectl, pod: str) -> None:
    """What `kubectl drain` sends for each pod. Raises when a budget forbids it."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction"}
    body["metadata"] = {"name": pod, "namespace": "default"}  # type: ignore[assignment]
    path = f"/api/v1/namespaces/default/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def _names(release: Release, model: str) -> list[str]:
    return [pod["metadata"]["name"] for pod in release.pods(model)]


def _ready(count: int) -> Any:
    return lambda one: one["status"].get("readyReplicas") == count


def test_an_evicted_pod_finishes_its_streams_while_its_successor_starts(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    spec = specs.stub(release.images.stub, SLOW, slots=4, idleTimeout="60s")
    with release.deployed("evicted", spec):
        release.asker("evicted").ask()
        running = [release.asker("evicted").start() for _ in range(2)]
        time.sleep(2)
        [pod] = _names(release, "evicted")
        evicted_at = time.time()
        _evict(release.kubectl, pod)
        made = pod_watch.added("evicted", evicted_at)
        late = [release.asker("evicted").start() for _ in range(2)]
        gone = pod_watch.gone("evicted", evicted_at)
        answers = finish(running + late)
        assert [answer.finish_reason for answer in answers] == ["stop"] * 4, answers
        assert made.at < gone.at, "the successor is made while the pod drains"
        figures.note(
            "eviction → successor's pod object", f"{made.at - evicted_at:.3f} s", "≤ 0.5 s", 1
        )
        figures.note("streams cut and requests lost by an eviction", "0 of 4", "0", 4)


def test_a_budget_lets_one_of_two_promised_replicas_go_at_a_time(release: Release) -> None:
    spec = specs.stub(release.images.stub, minReplicas=2, maxReplicas=2)
    with release.deployed("promised", spec):
        release.wait("promised", _ready(2), "at 2 replicas")
        _wait_for_budget(release.kubectl, "promised-runtime", allowed=1)
        first, second = _names(release, "promised")
        _evict(release.kubectl, first)
        with pytest.raises(Exception, match="disruption budget"):
            _evict(release.kubectl, second)
        release.wait("promised", _ready(2), "at 2 replicas again")
        _wait_for_budget(release.kubectl, "promised-runtime", allowed=1)
        _evict(release.kubectl, second)
        release.apply("promised", specs.stub(release.images.stub, minReplicas=1, maxReplicas=2))
        _wait_for_no_budget(release.kubectl, "promised-runtime")


def test_a_node_that_is_drained_keeps_requests_waiting_not_failing(release: Release) -> None:
    """One node: the successor has to wait until somebody uncordons it, and with it the request."""
    spec = specs.stub(release.images.stub, SLOW, idleTimeout="60s")
    with release.deployed("drained", spec):
        release.asker("drained").ask()
        running = release.asker("drained").start()
        time.sleep(1)
        [node] = [one["metadata"]["name"] for one in release.kubectl.get("nodes")["items"]]
        [pod] = _names(release, "drained")
        release.kubectl("cordon", node)
        try:
            _evict(release.kubectl, pod)
            [stream] = finish([running])
            assert stream.finish_reason == "stop", stream
            held = release.asker("drained").start()
            release.wait("drained", _is_unschedulable, "told that no node takes it")
        finally:
            release.kubectl("uncordon", node)
        [answer] = finish([held])
        assert answer.finish_reason == "stop", answer


def test_a_spot_node_taken_with_two_seconds_notice_cuts_only_what_does_not_fit(
    release: Release,
) -> None:
    """The kubelet kills after the grace: whoever is cut hears so in OpenAI's words, once."""
    spec = specs.stub(release.images.stub, SLOW, slots=4, idleTimeout="60s")
    with release.deployed("spot", spec):
        release.asker("spot").ask()
        ending = release.asker("spot", max_tokens=8).start()
        time.sleep(4.5)
        cut = release.asker("spot").start()
        time.sleep(1)
        [pod] = _names(release, "spot")
        release.kubectl("delete", "pod", pod, "--grace-period=2", "--wait=false")
        after = release.asker("spot").start()
        whole, broken, late = finish([ending, cut, after])
        assert whole.finish_reason == "stop", whole
        assert broken.error is not None, broken
        assert "Try again" in str(broken.error), broken.error
        assert broken.text, "what had come was passed on"
        assert late.finish_reason == "stop", late


def _is_unschedulable(found: dict[str, Any]) -> bool:
    conditions = found["status"].get("conditions", [])
    return any(c["type"] == "Scheduled" and c["reason"] == "Unschedulable" for c in conditions)


def _budgets(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    found = kubectl.get("poddisruptionbudgets")["items"]
    return [one for one in found if one["metadata"]["name"] == name]


def _wait_for_budget(kubectl: Kubectl, name: str, allowed: int) -> None:
    """Until the controller has counted that many pods as spare."""
    deadline = time.monotonic() + 60
    while True:
        states = [one.get("status", {}) for one in _budgets(kubectl, name)]
        if [state.get("disruptionsAllowed") for state in states] == [allowed]:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


def _wait_for_no_budget(kubectl: Kubectl, name: str) -> None:
    deadline = time.monotonic() + 20
    while _budgets(kubectl, name):
        assert time.monotonic() < deadline, "the budget is still there"
        time.sleep(0.1)
