"""Pools against a real API server: one write that only one can win, owners, versions, silence.

There is no kubelet: tests play it by writing the status of pods, and their runtimes on addresses of
loopback, where the operator finds their admin ports.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from e2e.harness.apiserver import ControlPlane
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.adoption import build_adoption
from stoker_operator.build.pod import PodOrder
from stoker_operator.cluster.client import KubeCluster
from stoker_operator.errors import Conflict
from support.operator_stand import GatewayWorker, OperatorProcess, eventually

pytestmark = pytest.mark.e2e

Start = Callable[..., Awaitable[OperatorProcess]]
KIND = {"apiVersion": "stoker.dev/v1alpha1"}


def _pool(size: int = 1) -> dict[str, Any]:
    spec = {"size": {"min": size}, "resources": {"gpus": 0}}
    return {**KIND, "kind": "WarmPool", "metadata": {"name": "shared"}, "spec": spec}


def _model(name: str) -> dict[str, Any]:
    spec = {
        "model": {"source": "pvc://models/tiny"},
        "resources": {"gpus": 0},
        "scaling": {"idleTimeout": "60s", "warmPool": {"name": "shared"}},
    }
    return {**KIND, "kind": "LLMDeployment", "metadata": {"name": name}, "spec": spec}


class Standby:
    """The admin port of one pod."""

    def __init__(self) -> None:
        self.phase = "Standby"
        self.orders: list[tuple[str, dict[str, Any]]] = []

    @asynccontextmanager
    async def listening(self, host: str) -> AsyncIterator[Standby]:
        """Serve on `host`, an address of loopback."""
        app = web.Application()
        app.router.add_get("/state", self._state)
        app.router.add_post("/{path}", self._order)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, host, 8001).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"phase": self.phase, "path": "warm", "residents": {}})

    async def _order(self, request: web.Request) -> web.Response:
        self.orders.append((request.path, await request.json()))
        self.phase = "Ready" if request.path == "/load" else "Standby"
        return await self._state(request)


def _run(plane: ControlPlane, namespace: str, pod: str, host: str) -> None:
    """What a kubelet writes."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    container = {"name": "runtime", "state": {"running": {"startedAt": started}}}
    container |= {"image": "i", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Running", "podIP": host, "containerStatuses": [container]}
    patch = ("patch", "pod", pod, "--subresource=status", "--type=merge", "-n", namespace)
    plane.kubectl(*patch, "-p", json.dumps({"status": status}))


async def _pods(api: KubeCluster, namespace: str, label: str) -> list[dict[str, Any]]:
    found = await api.list("Pod", namespace, (("labelSelector", label),))
    items: list[dict[str, Any]] = found["items"]
    return items


async def _standby(api: KubeCluster, namespace: str, *claims: str) -> dict[str, Any]:
    """The only standby, once it mounts what it should: the first one may be made before a claim or
    a deployment was seen, and makes way."""

    async def there() -> list[dict[str, Any]]:
        found = await _pods(api, namespace, "stoker.dev/pool=shared,!stoker.dev/deployment")
        return found if [_claims(pod) for pod in found] == [list(claims)] else []

    [pod] = await eventually(there, "standbys", 20)
    found: dict[str, Any] = pod
    return found


def _claims(pod: dict[str, Any]) -> list[str]:
    volumes = (volume.get("persistentVolumeClaim") for volume in pod["spec"]["volumes"])
    return [claim["claimName"] for claim in volumes if claim]


async def _full(api: KubeCluster, namespace: str, count: int = 1) -> None:
    async def waits() -> bool:
        status = (await api.read("WarmPool", namespace, "shared")).get("status", {})
        return bool(status.get("standby") == count)

    await eventually(waits, "the pool is not full", 20)


async def test_of_two_wakes_one_takes_the_standby_and_one_goes_fresh(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    await start("a")
    plane.kubectl.apply(_model("left"), _model("right"), _pool(), namespace=namespace)
    standby = await _standby(api, namespace, "models")
    async with Standby().listening("127.0.0.77") as runtime:
        _run(plane, namespace, standby["metadata"]["name"], "127.0.0.77")
        await _full(api, namespace)
        keys = [f"{namespace}/{name}" for name in ("left", "right")]
        await asyncio.gather(*(gateway.demand(key, queued=1) for key in keys))

        async def both() -> list[dict[str, Any]]:
            pods = await _pods(api, namespace, "stoker.dev/deployment")
            return pods if runtime.orders and len(pods) == 2 else []

        pods = await eventually(both, "no order to load, or no fresh pod", 20)
    [adopted] = [pod for pod in pods if pod["metadata"]["uid"] == standby["metadata"]["uid"]]
    [owner] = adopted["metadata"]["ownerReferences"]
    assert owner["kind"] == "LLMDeployment"
    [(path, body)] = runtime.orders
    assert (path, body["deployment"]) == ("/load", owner["name"])
    assert body["model"] == "/models/models/tiny"


async def test_the_api_server_lets_one_of_two_changes_pass(
    plane: ControlPlane, api: KubeCluster, start: Start, namespace: str
) -> None:
    operator = await start("a")
    plane.kubectl.apply(_pool(), namespace=namespace)
    standby = await _standby(api, namespace)
    await operator.end()
    deployments = []
    for name in ("left", "right"):
        plane.kubectl.apply(_model(name), namespace=namespace)
        found = await api.read("LLMDeployment", namespace, name)
        deployments.append(LLMDeployment.model_validate(found))
    order = PodOrder("", "abcd1234", 1.0, 2.0)
    changes = [build_adoption(deployment, standby, order) for deployment in deployments]
    results = await asyncio.gather(*map(api.change, changes), return_exceptions=True)
    assert sorted(isinstance(one, Conflict) for one in results) == [False, True]
    [left] = await _pods(api, namespace, "stoker.dev/deployment")
    assert len(left["metadata"]["ownerReferences"]) == 1


async def test_a_full_pool_is_not_written_to(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    await start("a")
    plane.kubectl.apply(_model("left"), _pool(), namespace=namespace)
    standby = await _standby(api, namespace, "models")
    async with Standby().listening("127.0.0.78"):
        _run(plane, namespace, standby["metadata"]["name"], "127.0.0.78")
        await _full(api, namespace)
        await gateway.demand(f"{namespace}/left", queued=0)
        await asyncio.sleep(2)
        before = _versions(plane, namespace)
        await asyncio.sleep(5)
        assert _versions(plane, namespace) == before


def _versions(plane: ControlPlane, namespace: str) -> str:
    """Of all objects of this namespace: those that other tests left may still be written to."""
    shown = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion} {end}"
    kinds = "llmdeployments,warmpools,pods,services,secrets,networkpolicies,events"
    return plane.kubectl("get", kinds, "-n", namespace, "-o", shown)


async def test_a_restarted_operator_adopts_at_once(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    """It has never heard of the standby, and asks before it makes a fresh pod."""
    first = await start("a")
    plane.kubectl.apply(_model("left"), _pool(), namespace=namespace)
    standby = await _standby(api, namespace, "models")
    async with Standby().listening("127.0.0.79") as runtime:
        _run(plane, namespace, standby["metadata"]["name"], "127.0.0.79")
        await _full(api, namespace)
        await first.end()
        await gateway.demand(f"{namespace}/left", queued=1)
        await start("a")

        async def ordered() -> bool:
            return bool(runtime.orders)

        await eventually(ordered, "no order to load", 20)
    [pod] = await _pods(api, namespace, "stoker.dev/deployment")
    assert pod["metadata"]["uid"] == standby["metadata"]["uid"]
