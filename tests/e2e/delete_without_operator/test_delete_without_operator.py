"""A deployment deleted while no operator runs is gone with all that belonged to it."""

import time

import pytest

from e2e.stage import specs
from e2e.stage.release import NAMESPACE, Release

pytestmark = pytest.mark.e2e

_OPERATOR = ("-n", NAMESPACE, "deployment/stoker-operator")


def _children(release: Release) -> list[str]:
    lines = release.kubectl(
        "get", "pods,services,secrets", "-l", "stoker.dev/deployment=orphan", "-o", "name"
    )
    return lines.split()


def test_deleting_with_the_operator_down_leaves_nothing(release: Release) -> None:
    with release.deployed("orphan", specs.stub(release.images.stub, minReplicas=1)):
        release.wait("orphan", lambda one: one["status"].get("readyReplicas") == 1, "serving")
        assert len(_children(release)) >= 4, "a pod, two services and a secret"
        release.kubectl("scale", *_OPERATOR, "--replicas=0")
        try:
            _wait_until(lambda: not release.own_pods("operator"))
            release.kubectl("delete", "llm", "orphan", "--wait=true", timeout_s=30)
            _wait_until(lambda: not _children(release))
        finally:
            release.kubectl("scale", *_OPERATOR, "--replicas=2")
            release.kubectl("rollout", "status", *_OPERATOR, "--timeout=60s")


def _wait_until(holds: object, timeout_s: float = 60) -> None:
    assert callable(holds)
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)
