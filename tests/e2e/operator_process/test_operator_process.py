"""The operator as a process against a real API server: pods, ownership, leadership, silence."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kubernetes import config

from e2e.harness.apiserver import ControlPlane
from stoker_api.tokens import derive_token
from stoker_cli.recall import fetch_arrivals
from stoker_cli.simulate.recorded import expand_minutes
from stoker_operator.cluster.client import KubeCluster
from stoker_operator.errors import NotFound
from support.operator_stand import CLAIM, GatewayWorker, OperatorProcess, eventually

pytestmark = pytest.mark.e2e

Start = Callable[..., Awaitable[OperatorProcess]]


def _model(name: str, **scaling: Any) -> dict[str, Any]:
    spec = {
        "model": {"source": "pvc://models/tiny"},
        "resources": {"gpus": 0},
        "scaling": {"idleTimeout": "2s"} | scaling,
    }
    kind = {"apiVersion": "stoker.dev/v1alpha1", "kind": "LLMDeployment"}
    return kind | {"metadata": {"name": name}, "spec": spec}


async def _pods(api: KubeCluster, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.list("Pod", namespace))["items"]
    return items


async def _status(api: KubeCluster, namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.read("LLMDeployment", namespace, name)).get("status", {})
    return found


async def _settled(api: KubeCluster, namespace: str, name: str, reason: str) -> dict[str, Any]:
    async def ready() -> dict[str, Any]:
        status = await _status(api, namespace, name)
        conditions = {c["type"]: c for c in status.get("conditions", [])}
        return status if conditions.get("Ready", {}).get("reason") == reason else {}

    status: dict[str, Any] = await eventually(ready, f"{name} {reason}")
    return status


async def _arrival_to_pod(
    api: KubeCluster, gateway: GatewayWorker, namespace: str, name: str
) -> float:
    """Seconds from a demand line to a pod that a watch shows, at zero before."""
    before = {pod["metadata"]["name"] for pod in await _pods(api, namespace)}
    watch = api.watch("Pod", namespace)
    await anext(watch)
    began = asyncio.create_task(gateway.demand(f"{namespace}/{name}", queued=1))
    asked_at = time.perf_counter()
    async for event, pod in watch:
        fresh = pod["metadata"]["name"] not in before
        if event == "ADDED" and fresh and pod["metadata"]["name"].startswith(f"{name}-"):
            break
    took = time.perf_counter() - asked_at
    await began
    await watch.aclose()
    return took


async def test_wakes_in_milliseconds_marks_and_sleeps_again(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    operator = await start("alone")
    plane.kubectl.apply(_model("chat"), namespace=namespace)
    status = await _settled(api, namespace, "chat", "ScaledToZero")
    assert status["url"] == "http://stoker-gateway.stoker.svc/v1"
    took_s = await _arrival_to_pod(api, gateway, namespace, "chat")
    print(f"first arrival -> pod object: {took_s * 1000:.1f} ms")
    [pod] = await _pods(api, namespace)
    managers = {field["manager"] for field in pod["metadata"]["managedFields"]}
    assert managers == {"stoker"}
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "LLMDeployment"
    assert not pod["metadata"].get("finalizers")
    await gateway.say(_ready_announcement(pod))
    status = await _settled(api, namespace, "chat", "Serving")
    assert status["lastColdStart"]["phases"]["weights"] == pytest.approx(0.5, abs=0.01)
    [change] = status["scaling"]["changes"]
    steps = (change["fromReplicas"], change["toReplicas"], change["reason"])
    assert steps == (0, 1, "DemandAtZero")
    fits = next(c for c in status["conditions"] if c["type"] == "Fits")
    assert fits["message"].endswith("2 sequences of 4096 tokens.")
    replicas = await operator.metric("stoker_operator_replicas")
    assert replicas[f'{{deployment="{namespace}/chat",state="ready"}}'] == 1
    marked = (await _pods(api, namespace))[0]["metadata"]["annotations"]
    assert marked["stoker.dev/address"] == "10.0.0.9:8000"
    await gateway.demand(f"{namespace}/chat", queued=0)
    await _settled(api, namespace, "chat", "ScaledToZero")
    assert gateway.tokens[-1] == "Bearer " + derive_token(b"a test key", "demand")
    assert await operator.end() == 0


async def test_a_day_is_remembered_and_read_through_the_api_server(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    operator = await start("alone")
    plane.kubectl.apply(_model("chat"), namespace=namespace)
    await _settled(api, namespace, "chat", "ScaledToZero")
    await gateway.demand(f"{namespace}/chat", queued=0, arrivals=0)  # as a gateway begins
    await gateway.demand(f"{namespace}/chat", queued=1, arrivals=1, arrived_tokens=50)
    await gateway.demand(f"{namespace}/chat", queued=3, arrivals=3, arrived_tokens=170)
    await _settled(api, namespace, "chat", "Waking")
    _show_as_pod(plane, operator)
    config.load_kube_config(str(plane.kubeconfig))
    told = await asyncio.to_thread(fetch_arrivals, f"{namespace}/chat", "stoker")
    rows = expand_minutes(told)
    assert len(rows) == 3
    assert abs(sum(row.input_tokens for row in rows) - 170) < 3
    plane.kubectl("delete", "pod", "operator-0", "-n", "stoker", "--grace-period=0", "--force")


def _show_as_pod(plane: ControlPlane, operator: OperatorProcess) -> None:
    """The process as the pod that it would be in a cluster, at an address that is no loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
        outwards.connect(("192.0.2.1", 9))  # sends nothing: it only picks the interface
        address = outwards.getsockname()[0]
    labels = {"app.kubernetes.io/component": "operator"}
    ports = [{"name": "metrics", "containerPort": operator.metrics_port}]
    container = {"name": "operator", "image": "operator", "ports": ports}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}}
    metadata = {"name": "operator-0", "labels": labels}
    plane.kubectl.apply(pod | {"metadata": metadata}, namespace="stoker")
    status = json.dumps({"status": {"phase": "Running", "podIP": address}})
    patch = ("patch", "pod", "operator-0", "--subresource=status", "--type=merge", "-p", status)
    plane.kubectl(*patch, "-n", "stoker")


def _ready_announcement(pod: dict[str, Any]) -> dict[str, Any]:
    metadata = pod["metadata"]
    decided_at = float(metadata["annotations"]["stoker.dev/decided-at"])
    instants = {"container": 0.5, "imports": 1.5, "weights": 2.0, "firstToken": 2.1}
    return {
        "kind": "announce",
        "namespace": metadata["namespace"],
        "deployment": metadata["labels"]["stoker.dev/deployment"],
        "pod": metadata["name"],
        "address": "10.0.0.9:8000",
        "phase": "Ready",
        "slots": 32,
        "phases": {phase: decided_at + after_s for phase, after_s in instants.items()},
        "room": {
            "weight_bytes": 2**20,
            "kv_bytes_per_token": 64,
            "memory_bytes": 2**30,
            "tokens": 8192,
            "max_model_len": 4096,
        },
    }


async def test_children_are_there_before_the_first_request(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    await start("alone")
    plane.kubectl.apply(_model("chat"), namespace=namespace)
    await _settled(api, namespace, "chat", "ScaledToZero")

    async def children() -> bool:
        try:
            await api.read("Service", namespace, "chat-pods")
            alias = await api.read("Service", namespace, "chat")
            secret = await api.read("Secret", namespace, "chat-runtime")
        except NotFound:
            return False
        assert alias["spec"]["externalName"] == "stoker-gateway.stoker.svc.cluster.local"
        return "token" in secret["data"]

    await eventually(children)


async def test_four_models_asked_at_once_and_again_right_after_their_sleep(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    operator = await start("alone")
    names = ["one", "two", "three", "four"]
    plane.kubectl.apply(*(_model(name, idleTimeout="1s") for name in names), namespace=namespace)
    for name in names:
        await _settled(api, namespace, name, "ScaledToZero")
    figures: list[float] = []
    for _ in range(5):
        asked = (_arrival_to_pod(api, gateway, namespace, name) for name in names)
        figures += await asyncio.gather(*asked)
        for name in names:
            await gateway.demand(f"{namespace}/{name}", queued=0)
        await eventually(_no_pods(api, namespace))
        await asyncio.sleep(0.5)
    figures.sort()
    print(f"arrival -> pod, 4 at once, 5 times: {[round(s * 1000, 1) for s in figures]} ms")
    samples = await operator.metric("stoker_operator_demand_to_pod_seconds_sum")
    print(f"inside the operator, mean: {1000 * sum(samples.values()) / len(figures):.1f} ms")


def _no_pods(api: KubeCluster, namespace: str) -> Callable[[], Awaitable[bool]]:
    async def no_pods() -> bool:
        return not await _pods(api, namespace)

    return no_pods


async def test_writes_nothing_once_all_is_as_wanted(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    operator = await start("alone")
    plane.kubectl.apply(_model("chat"), _model("busy", minReplicas=1), namespace=namespace)
    await _settled(api, namespace, "chat", "ScaledToZero")
    [pod] = await eventually(lambda: _pods(api, namespace))
    await gateway.say(_ready_announcement(pod))
    await _settled(api, namespace, "busy", "Serving")
    await asyncio.sleep(1)
    before = await operator.num_writes()
    await asyncio.sleep(8)
    assert await operator.num_writes() == before


async def test_a_standby_acts_after_the_leaders_death(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    plane.kubectl.apply(_model("chat", idleTimeout="1s"), namespace=namespace)
    leader = await start("first")
    await eventually(leader.leads)
    standby = await start("second")
    await _settled(api, namespace, "chat", "ScaledToZero")
    assert not await standby.leads()
    await eventually(_two_listen(gateway))
    await leader.end(signal.SIGKILL)
    took_s = await _arrival_to_pod(api, gateway, namespace, "chat")
    print(f"SIGKILL of the leader, then arrival -> pod object: {took_s:.2f} s")
    lease = await api.read("Lease", "stoker", "stoker-operator")
    assert lease["spec"]["holderIdentity"] == "second"


def _two_listen(gateway: GatewayWorker) -> Callable[[], Awaitable[bool]]:
    async def two_listen() -> bool:
        return len(gateway.listeners) == 2

    return two_listen


async def test_sigterm_hands_the_lease_over_at_once(
    plane: ControlPlane, gateway: GatewayWorker, start: Start
) -> None:
    lasting = {"STOKER_LEASE_DURATION_S": "60"}  # whoever waits for its end waits in vain here
    leader = await start("first", **lasting)
    await eventually(leader.leads)
    standby = await start("second", **lasting)
    began = time.perf_counter()
    ending = asyncio.create_task(leader.end())
    await eventually(standby.leads)
    print(f"SIGTERM of the leader -> standby leads: {time.perf_counter() - began:.2f} s")
    assert await ending == 0


async def test_ends_in_the_midst_of_much_without_a_traceback(
    plane: ControlPlane, start: Start, namespace: str
) -> None:
    """Watches that are being read and writes under way are ended, not cut."""
    models = [_model(f"m{number}") for number in range(40)]
    plane.kubectl.apply(*models, namespace=namespace)
    for number in range(4):
        operator = await start(f"n{number}")
        await eventually(operator.leads)
        await asyncio.sleep(0.1 * number)
        assert await operator.end() == 0
        assert "Traceback" not in operator.log.read_text()


async def test_a_restart_takes_its_own_lease_and_keeps_running_pods(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    plane.kubectl.apply(_model("chat", idleTimeout="1m"), namespace=namespace)
    operator = await start("same")
    await _settled(api, namespace, "chat", "ScaledToZero")
    await _arrival_to_pod(api, gateway, namespace, "chat")
    [pod] = await _pods(api, namespace)
    await operator.end(signal.SIGKILL)
    again = await start("same")
    began = time.perf_counter()
    await eventually(again.leads)
    print(f"restarted under its own name -> leads: {time.perf_counter() - began:.2f} s")
    await asyncio.sleep(1)
    [after] = await _pods(api, namespace)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_only_the_namespaces_it_is_given_are_managed(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    other = f"{namespace}x"
    plane.kubectl("create", "namespace", other)
    plane.kubectl.apply(_model("outside"), namespace=other)
    await start("narrow", STOKER_WATCH_NAMESPACES=f"{namespace},stoker")
    plane.kubectl.apply(_model("inside"), namespace=namespace)
    await _settled(api, namespace, "inside", "ScaledToZero")
    await _arrival_to_pod(api, gateway, namespace, "inside")
    assert await _status(api, other, "outside") == {}


async def test_a_broken_model_is_told_and_tried_again_later_only(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    await start("alone")
    plane.kubectl.apply(_model("broken", idleTimeout="1m"), namespace=namespace)
    await _settled(api, namespace, "broken", "ScaledToZero")
    await _arrival_to_pod(api, gateway, namespace, "broken")
    [pod] = await _pods(api, namespace)
    why = {"phase": "Failed", "reason": "CheckpointBroken", "message": "x.safetensors is cut off"}
    await gateway.say(_ready_announcement(pod) | why)
    await _settled(api, namespace, "broken", "CheckpointBroken")
    await asyncio.sleep(2)
    assert [one["metadata"]["name"] for one in await _pods(api, namespace)] == [
        pod["metadata"]["name"]
    ]
    plane.kubectl.apply(_model("broken", idleTimeout="2m"), namespace=namespace)
    model = _model("broken", idleTimeout="2m")
    model["spec"]["engine"] = {"maxModelLen": 128}
    plane.kubectl.apply(model, namespace=namespace)

    async def replaced() -> bool:
        names = {one["metadata"]["name"] for one in await _pods(api, namespace)}
        return bool(names) and pod["metadata"]["name"] not in names

    await eventually(replaced)


async def test_a_missing_claim_is_named_and_its_arrival_noticed(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    await start("alone")
    model = _model("lost")
    model["spec"]["model"]["source"] = "pvc://elsewhere/tiny"
    plane.kubectl.apply(model, namespace=namespace)
    status = await _settled(api, namespace, "lost", "ClaimNotFound")
    assert "elsewhere" in json.dumps(status["conditions"])
    await gateway.demand(f"{namespace}/lost", queued=1)
    await asyncio.sleep(0.3)
    assert await _pods(api, namespace) == []
    plane.kubectl.apply(CLAIM | {"metadata": {"name": "elsewhere"}}, namespace=namespace)
    await eventually(lambda: _pods(api, namespace))
    events = plane.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={..reason}")
    assert "ClaimNotFound" in events
