"""The harness itself: a pod of the stub image runs and answers on any kind of cluster."""

import json
import time
import urllib.request
from typing import Any

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.images import ensure_stub

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def stub_image(cluster: Cluster) -> str:
    """The stub's image, loaded."""
    name = cluster.settings.stub_image or ensure_stub(cluster.settings)
    cluster.provider.load_image(name)
    return name


def _stub_pod(name: str, image: str, *args: str) -> dict[str, Any]:
    container = {"name": "runtime", "image": image, "args": list(args)}
    container["ports"] = [{"containerPort": 8000}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
    }


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8000}]},
    }


def test_a_stub_pod_answers_through_its_service(cluster: Cluster, stub_image: str) -> None:
    kubectl = cluster.kubectl
    kubectl.apply(_stub_pod("smoke", stub_image, "--served-name=smoke"), _service("smoke"))
    try:
        kubectl("wait", "--for=condition=Ready", "pod/smoke", "--timeout=60s")
        address = cluster.provider.reach("smoke", "default", 80)
        answer = _ask_until_routed(f"{address.url}/v1/chat/completions")
        assert answer["choices"][0]["message"]["content"] == "token0 token1 token2 "
        assert answer["usage"]["completion_tokens"] == 3
        assert "token" not in kubectl("logs", "smoke")
    finally:
        kubectl("delete", "pod/smoke", "service/smoke")


def _ask_until_routed(url: str) -> Any:
    """kube-proxy may take a second to know a new Service."""
    body = json.dumps({"model": "smoke", "max_tokens": 3, "messages": []}).encode()
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, data=body, timeout=5) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} was not routed within 10 s")
