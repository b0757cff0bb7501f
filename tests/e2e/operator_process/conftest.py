"""The operator's process on a bare API server: CRDs, a namespace, a gateway pod that is a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from e2e.harness.apiserver import ControlPlane
from stoker_operator.cluster.client import KubeCluster, connect
from support.operator_stand import CLAIM, GatewayWorker, OperatorProcess

CRDS = Path(__file__).parents[3] / "crds"
Start = Callable[..., Awaitable[OperatorProcess]]


@pytest.fixture(scope="module")
def plane(apiserver: ControlPlane) -> ControlPlane:
    """The API server with our CRDs, the operator's namespace and the gateway's Service."""
    kubectl = apiserver.kubectl
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    if not kubectl("get", "namespace", "stoker", "--ignore-not-found", "-o", "name"):
        kubectl("create", "namespace", "stoker")
    port = {"name": "internal", "port": 8090}
    service = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [port]}}
    kubectl.apply(service | {"metadata": {"name": "stoker-gateway-internal"}}, namespace="stoker")
    return apiserver


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[KubeCluster]:
    """Our own client, always allowed to write."""
    cluster = await connect(lambda: True, str(plane.kubeconfig))
    yield cluster
    await cluster.close()


@pytest.fixture
async def gateway(plane: ControlPlane) -> AsyncIterator[GatewayWorker]:
    """A gateway worker, and the pod that leads the operator to it."""
    kubectl = plane.kubectl
    async with GatewayWorker().serving() as worker:
        metadata = {
            "name": "gateway-0",
            "labels": {"app.kubernetes.io/component": "gateway"},
            "annotations": {"stoker.dev/internal-ports": str(worker.port)},
        }
        spec = {"containers": [{"name": "gateway", "image": "gateway"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        kubectl.apply(pod, namespace="stoker")
        status = '{"status":{"phase":"Running","podIP":"127.0.0.1"}}'
        patch = ("patch", "pod", "gateway-0", "--subresource=status", "--type=merge", "-p", status)
        kubectl(*patch, "-n", "stoker")
        yield worker
        kubectl("delete", "pod", "gateway-0", "-n", "stoker", "--grace-period=0", "--force")


@pytest.fixture
async def start(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts operators, and ends them with the test."""
    started: list[OperatorProcess] = []
    key = tmp_path / "key"
    key.write_text("a test key")

    async def start_one(name: str, **environ: str) -> OperatorProcess:
        log = tmp_path / f"{name}.log"
        process = OperatorProcess(name, plane.kubeconfig, log, key, **environ)
        started.append(process)
        return await process.start()

    yield start_one
    for process in started:
        await process.end()
    plane.kubectl("delete", "lease", "stoker-operator", "-n", "stoker", "--ignore-not-found")


@pytest.fixture
async def namespace(plane: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A namespace of its own with the models' claim."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    plane.kubectl("create", "namespace", name)
    plane.kubectl.apply(CLAIM, namespace=name)
    return name
