"""Waking from a warm pool: adopted, shared, returned; and what happens when something dies."""

import base64
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.stage import specs
from e2e.stage.asks import finish
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch, Seen
from e2e.stage.pools import RESOURCES, Pool, deployment_of, pooled, room_for
from e2e.stage.release import NAMESPACE, Release
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.adoption import build_adoption
from stoker_operator.build.metadata import derive_template_hash
from stoker_operator.build.pod import PodOrder

pytestmark = pytest.mark.e2e


def _warm(pool: str, **scaling: Any) -> dict[str, Any]:
    spec = specs.tiny_chat(warmPool={"name": pool}, **{"idleTimeout": "20s", **scaling})
    return {**spec, "resources": RESOURCES}


def _path(release: Release, name: str) -> str:
    found = release.wait(name, lambda one: "lastColdStart" in one["status"], "timed", 20)
    return str(found["status"]["lastColdStart"]["path"])


def _taken(name: str, deployment: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.name == name and deployment_of(_raw(seen)) == deployment


def _raw(seen: Seen) -> dict[str, Any]:
    return {"metadata": {"labels": seen.pod.metadata.labels or {}}}


def test_a_wake_takes_a_standby_and_the_pool_refills(release: Release, pod_watch: PodWatch) -> None:
    with (
        pooled(release, "adopt") as pool,
        release.deployed("warm", _warm("adopt")),
    ):
        release.wait_at_zero("warm")
        [standby] = pool.wait_full()
        answer = release.asker("warm").ask()
        assert not answer.lost, answer.error
        [pod] = release.pods("warm")
        assert pod["metadata"]["uid"] == standby["metadata"]["uid"]
        assert pod["metadata"]["ownerReferences"][0]["kind"] == "LLMDeployment"
        assert _path(release, "warm") == "warm"
        [refilled] = pool.wait_full()
        assert refilled["metadata"]["uid"] != standby["metadata"]["uid"]
        release.wait_at_zero("warm")
        before = _written(pool, "warm")
        time.sleep(5)
        assert _written(pool, "warm") == before, "a full pool costs no write"


def _written(pool: Pool, name: str) -> list[Any]:
    """Versions and marks of what the operator may write; kubelets write the status of pods."""
    versions = [
        pool.release.kubectl.get(*one)["metadata"]["resourceVersion"]
        for one in (("wp", pool.name), ("llm", name))
    ]
    return [versions, [pod["metadata"].get("annotations") for pod in pool.pods()]]


def test_an_empty_pool_means_a_fresh_pod(release: Release) -> None:
    with (
        pooled(release, "empty", size={"min": 0}) as pool,
        release.deployed("fresh", _warm("empty")),
    ):
        pool.wait(lambda found: bool(found.get("conditions")), "seen")
        release.wait_at_zero("fresh")
        answer = release.asker("fresh").ask()
        assert not answer.lost, answer.error
        assert _path(release, "fresh") == "fresh"
        assert pool.pods() == []


def test_two_models_share_one_standby(release: Release) -> None:
    with (
        pooled(release, "one") as pool,
        release.deployed("left", _warm("one")),
        release.deployed("right", _warm("one")),
    ):
        [standby] = pool.wait_full()
        for name in ("left", "right"):
            release.wait_at_zero(name)
        answers = finish([release.asker(name).start() for name in ("left", "right")])
        assert not [answer.error for answer in answers if answer.lost]
        assert sorted(_path(release, name) for name in ("left", "right")) == ["fresh", "warm"]
        pods = release.pods("left") + release.pods("right")
        assert [pod["metadata"]["uid"] for pod in pods].count(standby["metadata"]["uid"]) == 1


def test_an_operator_killed_between_relabel_and_load_loses_nothing(
    release: Release, pod_watch: PodWatch
) -> None:
    with pooled(release, "midway") as pool, release.deployed("halfway", _warm("midway")):
        [standby] = pool.wait_full()
        release.wait_at_zero("halfway")
        _scale_operator(release, 0)
        held = release.asker("halfway").start()
        name = _relabel(release, pool, "halfway")
        _scale_operator(release, 2)
        answer = held.result()
        assert not answer.lost, answer.error
        assert name == standby["metadata"]["name"]
        assert [pod["metadata"]["name"] for pod in release.pods("halfway")] == [name]
        assert _path(release, "halfway") == "warm"


def _scale_operator(release: Release, count: int) -> None:
    deployment = ("deployment/stoker-operator", "-n", NAMESPACE)
    release.kubectl("scale", *deployment, f"--replicas={count}")
    if count:
        release.kubectl("rollout", "status", *deployment, "--timeout=60s")
        return
    for pod in release.own_pods("operator"):
        release.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force")


def _relabel(release: Release, pool: Pool, deployed: str) -> str:
    """The operator's last write before it was killed: the very change that it makes."""
    [pod] = pool.standbys()
    deployment = LLMDeployment.model_validate(release.get(deployed))
    template = derive_template_hash(deployment.spec)
    change = build_adoption(deployment, pod, PodOrder("", template, time.time(), time.time()))
    for key in ("uid", "resourceVersion"):
        del change["metadata"][key]
    name = pod["metadata"]["name"]
    release.kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps(change))
    return str(name)


def test_a_standby_that_dies_while_it_loads_is_replaced_by_a_fresh_pod(
    release: Release, pod_watch: PodWatch
) -> None:
    with pooled(release, "dying") as pool, release.deployed("victim", _warm("dying")):
        [standby] = pool.wait_full()
        release.wait_at_zero("victim")
        pool.signal_engine(standby, signal.SIGSTOP)
        began = time.time()
        held = release.asker("victim").start()
        pod_watch.wait(_taken(standby["metadata"]["name"], "victim"), began)
        time.sleep(0.5)
        pool.signal_engine(standby, signal.SIGKILL)
        answer = held.result()
        assert not answer.lost, answer.error
        release.wait_for_event("victim", "AdoptionFailed")
        assert _path(release, "victim") == "fresh"


def test_a_scale_down_returns_the_pod_and_cuts_no_stream(
    release: Release, figures: Figures
) -> None:
    """There is room for the standbys alone, so a pod that is let go is worth having back."""
    with (
        pooled(release, "back", size={"min": 2}) as pool,
        release.deployed("shrink", _warm("back")),
    ):
        before = {pod["metadata"]["uid"] for pod in pool.wait_full(2)}
        with room_for(release, 2):
            release.apply("shrink", _warm("back", minReplicas=2, maxReplicas=2))
            release.wait("shrink", lambda one: one["status"].get("readyReplicas") == 2, "2")
            token = _token(release, "shrink-runtime")
            asker = release.asker("shrink", max_tokens=400)
            running = [asker.start("Say all numbers from 1 to 100.") for _ in range(4)]
            time.sleep(1)
            release.apply("shrink", _warm("back", minReplicas=1, maxReplicas=1))
            answers = finish(running)
            lost = [answer.error for answer in answers if answer.lost]
            words = "streams cut while a pod of two returned to its pool"
            figures.note(words, f"{len(lost)} of {len(answers)}", "0", len(answers))
            assert not lost, lost
            [back] = pool.wait_full(1)
            assert back["metadata"]["uid"] in before
            assert back["metadata"]["ownerReferences"][0]["kind"] == "WarmPool"
            assert _status_with(release, back, token) == 401, "the old key opens nothing"
            _serves_another(release, back)


def _serves_another(release: Release, back: dict[str, Any]) -> None:
    with release.deployed("next", _warm("back")):
        answer = release.asker("next").ask()
        assert not answer.lost, answer.error
        [pod] = release.pods("next")
        assert pod["metadata"]["uid"] == back["metadata"]["uid"]


def _token(release: Release, secret: str) -> str:
    data = release.kubectl.get("secret", secret)["data"]["token"]
    return base64.b64decode(data).decode()


_ASK = """
import sys, urllib.request, urllib.error
url, token = sys.argv[1:]
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
try:
    print(urllib.request.urlopen(request, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def _status_with(release: Release, pod: dict[str, Any], token: str) -> int:
    """What a pod answers to a key, asked from a gateway's pod."""
    url = f"http://{pod['status']['podIP']}:8000/v1/models"
    gateway = release.own_pods("gateway")[0]
    told = release.kubectl(
        "exec", gateway, "-n", NAMESPACE, "--", "python3", "-c", _ASK, url, token
    )
    return int(told)
