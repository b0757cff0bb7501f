"""Many deployments at once on a real API server: what each costs, and a restart in their midst."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.apiserver import ControlPlane
from stoker_operator.cluster.client import KubeCluster
from support.operator_stand import GatewayWorker, OperatorProcess, eventually

pytestmark = pytest.mark.e2e

Start = Callable[..., Awaitable[OperatorProcess]]
COUNT = 200
NAMESPACE = "many"


def _model(number: int) -> dict[str, Any]:
    spec = {"model": {"source": "pvc://models/tiny"}, "resources": {"gpus": 0}}
    kind = {"apiVersion": "stoker.dev/v1alpha1", "kind": "LLMDeployment"}
    return kind | {"metadata": {"name": f"m{number:03}"}, "spec": spec}


async def _count_told(api: KubeCluster) -> int:
    """Deployments whose status says that they sleep, of those that exist."""
    found = (await api.list("LLMDeployment", NAMESPACE))["items"]
    return sum(one.get("status", {}).get("phase") == "ScaledToZero" for one in found)


def _resident_mib(operator: OperatorProcess) -> float:
    text = Path(f"/proc/{operator.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


async def test_two_hundred_at_once_cost_little_each_and_survive_a_restart(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start
) -> None:
    plane.kubectl("create", "namespace", NAMESPACE)
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}}
    request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    plane.kubectl.apply(claim | {"spec": request}, namespace=NAMESPACE)
    first = await start("first")
    empty_mib = _resident_mib(first)
    began = time.monotonic()
    models = [_model(number) for number in range(COUNT)]
    task = asyncio.create_task(asyncio.to_thread(plane.kubectl.apply, *models, namespace=NAMESPACE))

    async def half() -> bool:
        return await _count_told(api) >= COUNT // 4

    await eventually(half, "a quarter is told", 120)
    writes_before = await first.metric("stoker_operator_writes_total")
    assert await first.end(signal.SIGKILL) != 0
    second = await start("second")
    await task

    async def all_told() -> bool:
        return await _count_told(api) == COUNT

    await eventually(all_told, "all are told", 180)
    took_s = time.monotonic() - began
    await asyncio.sleep(2)
    full_mib = _resident_mib(second)
    writes = await second.metric("stoker_operator_writes_total")
    print(f"{COUNT} in {took_s:.1f} s; {empty_mib:.0f} -> {full_mib:.0f} MiB")
    print(f"writes of the first: {writes_before}\nwrites of the second: {writes}")
    own = {labels: n for labels, n in writes.items() if "Lease" not in labels}
    assert sum(own.values()) <= 5 * COUNT, own
    services = (await api.list("Service", NAMESPACE))["items"]
    assert len(services) == 2 * COUNT
    quiet = sum((await second.metric("stoker_operator_writes_total")).values())
    plane.kubectl("delete", "llm", "--all", "-n", NAMESPACE, "--wait=false", timeout_s=120)

    async def all_gone() -> bool:
        return not (await api.list("LLMDeployment", NAMESPACE))["items"]

    await eventually(all_gone, "all are gone", 120)
    await asyncio.sleep(3)
    after = await second.metric("stoker_operator_writes_total")
    deleting = sum(n for labels, n in after.items() if "Lease" not in labels) - sum(own.values())
    print(
        f"writes to delete them: {deleting:.0f} (of {quiet:.0f}), {_resident_mib(second):.0f} MiB"
    )
    assert deleting <= COUNT // 10, "what is gone is not written to"
    assert _resident_mib(second) < full_mib + 30
    log = second.log.read_text()
    assert "Traceback" not in log, log[-3000:]
