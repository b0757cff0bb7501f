"""A gateway worker before a real API server: it sees deployments and pods come, change and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.apiserver import ControlPlane
from e2e.harness.kubectl import Kubectl
from stoker_gateway.watch import Event, KubernetesCluster, Listing, Scope
from stoker_gateway.worker import Worker
from support.fake_runtime import FakeRuntime
from support.fake_watch import make_deployment, make_pod
from support.gateway import Gateway, running_gateway, until

pytestmark = pytest.mark.e2e

CRDS = Path(__file__).parents[3] / "crds"
NAMESPACE = "gateway-watch"
KEY = f"{NAMESPACE}/chat"


class ForgetfulCluster(KubernetesCluster):
    """The real API server, whose first lists end in versions that it no longer knows."""

    def __init__(self) -> None:
        super().__init__()
        self.num_gone = 0

    async def list_all(self, scope: Scope) -> Listing:
        """As it is, but the first time with an ancient version."""
        listing = await super().list_all(scope)
        return listing if self.num_gone else Listing(listing.items, "1")

    async def watch(self, scope: Scope, version: str) -> AsyncIterator[Event]:
        """As it is; counts how often the version was too old."""
        async for event in super().watch(scope, version):
            if event.type == "ERROR" and json.loads(bytes(event.object))["code"] == 410:
                self.num_gone += 1
            yield event


@pytest.fixture
def kubectl(apiserver: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """The bare API server with our CRDs and an empty namespace."""
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    kubectl = apiserver.kubectl
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    if not kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        kubectl("create", "namespace", NAMESPACE)
    kubectl("delete", "llm,pods", "--all", "-n", NAMESPACE, "--grace-period=0", "--force")
    return kubectl


@pytest.fixture
async def gateway(kubectl: Kubectl) -> AsyncIterator[Gateway]:
    """A worker that follows the real API server, through a 410 at first."""
    async with running_gateway(watch_namespaces=NAMESPACE, deploy=False) as gateway:
        await gateway.session.close()
        await gateway.worker.close()
        cluster = ForgetfulCluster()
        real = Gateway(gateway.settings, gateway.cluster)
        real.worker = Worker(gateway.settings, 0, cluster)
        await real.start()
        await until(lambda: cluster.num_gone == 1, 10)
        yield real
        await real.close()
        await cluster.close()
        await asyncio.sleep(0.2)  # TLS connections end a little later


def apply(kubectl: Kubectl, item: dict[str, Any]) -> None:
    metadata = item["metadata"] | {"namespace": NAMESPACE}
    for written_by_the_server in ("generation", "creationTimestamp"):
        metadata.pop(written_by_the_server, None)
    body = {key: value for key, value in item.items() if key != "status"}
    kubectl.apply(body | {"metadata": metadata}, namespace=NAMESPACE)


def runtime_pod(address: str) -> dict[str, Any]:
    pod = make_pod("chat-1", annotations={"stoker.dev/address": address})
    spec = {"containers": [{"name": "runtime", "image": "none"}], "nodeName": "nowhere"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": spec}


async def test_follows_a_real_api_server_also_after_its_version_is_gone(
    kubectl: Kubectl, gateway: Gateway
) -> None:
    fleet = gateway.worker.fleet
    apply(kubectl, make_deployment())
    await until(lambda: fleet.directory.find("chat"), 10)
    target = fleet.directory.resolve("chat")
    assert (target.key, target.hold_s) == (KEY, 120)
    assert target.created_at > 1_700_000_000

    async with FakeRuntime() as runtime:
        apply(kubectl, runtime_pod(runtime.address))
        lane = fleet.get(KEY)
        assert lane
        await until(lambda: lane.routes.num_routed == 1, 10)
        async with gateway.ask() as answer:
            assert answer.status == 200
        kubectl("delete", "pod", "chat-1", "-n", NAMESPACE, "--grace-period=60", "--wait=false")
        await until(lambda: lane.routes.num_routed == 0, 10)

    kubectl("delete", "pod", "chat-1", "-n", NAMESPACE, "--grace-period=0", "--force")
    kubectl("delete", "llm", "chat", "-n", NAMESPACE)
    await until(lambda: fleet.get(KEY) is None, 10)
    assert gateway.worker.backends.synced
