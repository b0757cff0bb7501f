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

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

Start = Callable[..., Awaitable[OperatorProcess]]
COUNT = 200
FROM_MEMORY = (("resourceVersion", "0"),)


def _model(number: int) -> dict[str, Any]:
    spec = {"model": {"source": "pvc://models/tiny"}, "resources": {"gpus": 0}}
    kind = {"apiVersion": "stoker.dev/v1alpha1", "kind": "LLMDeployment"}
    return kind | {"metadata": {"name": f"m{number:03}"}, "spec": spec}


async def _count_told(api: KubeCluster, namespace: str) -> int:
    """Deployments whose status says that they sleep; asked seldom, and of the server's memory: to
    list hundreds from etcd all the time would starve who is measured."""
    await asyncio.sleep(0.3)
    found = (await api.list("LLMDeployment", namespace, FROM_MEMORY))["items"]
    return sum(one.get("status", {}).get("phase") == "ScaledToZero" for one in found)


def _resident_mib(operator: OperatorProcess) -> float:
    text = Path(f"/proc/{operator.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


async def _all_told(api: KubeCluster, namespace: str, least: int) -> None:
    async def enough() -> bool:
        return await _count_told(api, namespace) >= least

    await eventually(enough, f"{least} are told", 180)


async def _num_writes(operator: OperatorProcess) -> float:
    """Writes of one process, once it is quiet."""
    await asyncio.sleep(2)
    return await operator.num_writes()


async def test_two_hundred_at_once_cost_little_each_and_survive_a_restart(
    plane: ControlPlane, api: KubeCluster, gateway: GatewayWorker, start: Start, namespace: str
) -> None:
    first = await start("first")
    empty_mib = _resident_mib(first)
    began = time.monotonic()
    models = [_model(number) for number in range(COUNT)]
    applying = asyncio.to_thread(plane.kubectl.apply, *models, namespace=namespace)
    task = asyncio.create_task(applying)
    await _all_told(api, namespace, COUNT // 4)
    await first.end(signal.SIGKILL)
    second = await start("second")
    await task
    await _all_told(api, namespace, COUNT)
    print(f"{COUNT} deployments told in {time.monotonic() - began:.1f} s, a restart included")
    making = await _num_writes(second)
    full_mib = _resident_mib(second)
    assert making <= 5 * COUNT, "a Secret, two Services, a status, and what was half done"
    assert len((await api.list("Service", namespace))["items"]) == 2 * COUNT
    plane.kubectl("delete", "llm", "--all", "-n", namespace, "--wait=true", timeout_s=120)
    deleting = await _num_writes(second) - making
    print(f"{making / COUNT:.2f} writes each, {deleting:.0f} after their deletion")
    print(f"{empty_mib:.0f} MiB empty, {full_mib:.0f} full, {_resident_mib(second):.0f} after")
    assert deleting <= COUNT // 10, "what is gone is not written to"
    assert full_mib < empty_mib + COUNT * 0.2
    assert _resident_mib(second) < full_mib + 10
    assert "Traceback" not in second.log.read_text()
