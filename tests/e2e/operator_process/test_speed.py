"""What runtimes measure reaches the status and decides, on a real API server."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from e2e.harness.apiserver import ControlPlane
from stoker_operator.cluster.client import KubeCluster
from support.operator_stand import GatewayWorker, OperatorProcess, eventually

pytestmark = pytest.mark.e2e

Start = Callable[..., Awaitable[OperatorProcess]]
MODEL = {
    "apiVersion": "stoker.dev/v1alpha1",
    "kind": "LLMDeployment",
    "metadata": {"name": "chat"},
    "spec": {"model": {"source": "pvc://models/tiny"}, "resources": {"gpus": 0}},
}
SPEED = {"step_s": 0.1, "token_s": 0.002, "seq_s": 0.01, "chunk_tokens": 512}


async def test_a_measured_speed_is_shown_survives_a_restart_and_decides(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    """Eight requests run, a quarter of the slots: only who knows the speed asks for another pod."""
    key = f"{namespace}/chat"
    plane.kubectl.apply(MODEL, namespace=namespace)
    first = await start("first")
    await gateway.demand(key, queued=1)

    async def status() -> dict[str, Any]:
        return dict((await api.read("LLMDeployment", namespace, "chat")).get("status", {}))

    async def waking() -> bool:
        return (await status()).get("replicas") == 1

    async def speed() -> Any:
        return (await status()).get("speed")

    await eventually(waking, "the operator knows its pod")
    [pod] = (await api.list("Pod", namespace))["items"]
    await gateway.say(_announce(pod))
    await gateway.say(_announce(pod, steps=64, speed=SPEED))
    told = await eventually(speed, "the speed is told")
    assert (told["prefillTokensPerSecond"], told["stepSeconds"]) == (500, 0.1)
    await first.end()
    await start("second")

    async def grown() -> bool:
        count = next(counts)
        totals = {"arrivals": 4 * count, "arrived_tokens": 1000 * count}
        await gateway.demand(key, queued=0, running=8, **totals)
        changes = (await status())["scaling"]["changes"]
        return "ArrivalRate" in [change["reason"] for change in changes]

    counts = itertools.count(1)
    await eventually(grown, "more arrives than one replica carries", 30)
    assert len((await api.list("Pod", namespace))["items"]) > 1
    assert 0 < (await status())["scaling"]["inputs"]["requestsPerSecond"] < 2
    assert (await speed())["stepSeconds"] == 0.1


def _announce(pod: dict[str, Any], **more: Any) -> dict[str, Any]:
    metadata = pod["metadata"]
    return {
        "kind": "announce",
        "namespace": metadata["namespace"],
        "deployment": "chat",
        "pod": metadata["name"],
        "address": "10.0.0.9:8000",
        "phase": "Ready",
        "slots": 32,
        "phases": {"container": float(metadata["annotations"]["stoker.dev/decided-at"]) + 1},
    } | more
