"""A ready pod is made known to the gateway that waits for it, though another one heard it."""

from __future__ import annotations

import asyncio

import pytest

from stoker_api import names
from stoker_api.demand import Announcement, Demand
from stoker_operator.cluster.admin import HttpAdminPorts
from stoker_operator.cluster.herald import Herald
from stoker_operator.cluster.ledger import DemandLedger, Worker
from stoker_operator.cluster.snapshot import Snapshot
from support.fake_admin_ports import FakeAdminPorts
from support.fake_runtime import FakeRuntime
from support.gateway import Gateway, running_gateway, until

PHASES = ["Starting", "Loading", "Draining", "Failed"]


def make_ledger(**queued: int) -> DemandLedger:
    """Workers by host, `a` at port 1, and how many wait in each."""
    ledger = DemandLedger(0.0, 10)
    for at, (host, count) in enumerate(queued.items(), 1):
        record(ledger, (host, at), count)
    return ledger


def record(ledger: DemandLedger, worker: Worker, queued: int) -> None:
    """One worker's report."""
    demand = Demand(deployment="default/chat", queued=queued, running=0, idle_s=0, arrivals=1)
    ledger.record(worker, demand, 0.0)


def say(phase: str = "Ready", address: str = "10.0.0.9:8000") -> Announcement:
    """What a pod says."""
    return Announcement(
        namespace="default", deployment="chat", pod="chat-0", address=address, phase=phase, slots=4
    )


async def test_who_waits_is_told_and_nobody_else() -> None:
    ports = FakeAdminPorts()
    ledger = make_ledger(a=2, b=0, c=1)
    record(ledger, ("c", 9), 1)
    Herald(ports, ledger, Snapshot(), lambda purpose: f"key of {purpose}").pass_on(say())
    await asyncio.sleep(0)
    assert sorted(call.address for call in ports.calls) == ["a:1", "c:9"]  # one worker a pod
    assert {(call.path, call.token) for call in ports.calls} == {
        (names.ANNOUNCE_PATH, "key of runtime/default/chat")
    }
    assert Announcement.model_validate_json(ports.calls[0].body) == say()


@pytest.mark.parametrize("marked", [False, True])
async def test_who_asks_later_is_told_as_long_as_no_mark_tells(marked: bool) -> None:
    ports, snapshot = FakeAdminPorts(), Snapshot()
    metadata = {"name": "chat-0", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    labels = {names.LABEL_DEPLOYMENT: "chat"}
    marks = {names.ANNOTATION_ADDRESS: "10.0.0.9:8000"} if marked else {}
    pod = {"metadata": metadata | {"labels": labels, "annotations": marks}, "spec": {}}
    snapshot.upsert(pod, "Pod", 0.0)
    snapshot.announce(say())
    herald = Herald(ports, make_ledger(a=1), snapshot, lambda purpose: None)
    herald.point("default/chat")
    herald.point("default/other")
    await asyncio.sleep(0)
    assert [call.address for call in ports.calls] == ([] if marked else ["a:1"])


@pytest.mark.parametrize("phase", PHASES)
async def test_only_readiness_is_passed_on(phase: str) -> None:
    ports = FakeAdminPorts()
    Herald(ports, make_ledger(a=1), Snapshot(), lambda purpose: None).pass_on(say(phase))
    await asyncio.sleep(0)
    assert ports.calls == []


@pytest.mark.parametrize("leads", [True, False])
async def test_a_gateway_that_is_gone_and_a_lost_lease_harm_nobody(leads: bool) -> None:
    ports = HttpAdminPorts(lambda: leads)
    ledger = DemandLedger(0.0, 10)
    record(ledger, ("127.0.0.1", 1), 1)
    Herald(ports, ledger, Snapshot(), lambda purpose: None).pass_on(say())
    await asyncio.sleep(0.05)
    await ports.close()


async def test_a_held_request_goes_where_the_operator_points() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        held = asyncio.create_task(_ask(gateway))
        lane = gateway.worker.fleet.get("default/chat")
        await until(lambda: lane and len(lane.queue))
        ledger = DemandLedger(0.0, 10)
        record(ledger, ("127.0.0.1", int(gateway.internal_url.rpartition(":")[2])), 1)
        ports = HttpAdminPorts(lambda: True)
        Herald(ports, ledger, Snapshot(), lambda purpose: None).pass_on(
            say(address=runtime.address)
        )
        assert await held == 200
        await ports.close()


async def _ask(gateway: Gateway) -> int:
    async with gateway.ask() as answer:
        status: int = answer.status
        return status
