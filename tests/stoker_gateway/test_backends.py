"""What a worker believes about pods: announced, watched, probed, in whatever order news comes."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from stoker_gateway import backends
from stoker_gateway.lane import Lane
from stoker_gateway.routing import Pod
from support.fake_runtime import FakeRuntime
from support.fake_watch import make_deployment, make_pod
from support.gateway import Gateway, running_gateway, until

ADDRESS = "stoker.dev/address"


def lane_of(gateway: Gateway, key: str = "default/chat") -> Lane:
    lane = gateway.worker.fleet.get(key)
    assert lane
    return lane


def pod_of(gateway: Gateway, name: str = "chat-1") -> Pod | None:
    return lane_of(gateway).routes.get(name)


def routed(gateway: Gateway) -> int:
    return lane_of(gateway).routes.num_routed


async def test_an_announcement_routes_before_any_watch_event() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        assert await gateway.announce("chat-1", "Ready", runtime.address, slots=3) == 204
        pod = pod_of(gateway)
        assert pod
        assert (pod.routed, pod.slots, runtime.num_probes) == (True, 3, 0)


async def test_a_pod_that_another_gateway_heard_of_is_asked_for_its_slots() -> None:
    async with running_gateway() as gateway, FakeRuntime(slots=7) as runtime:
        pod = make_pod("chat-1", annotations={ADDRESS: runtime.address})
        await gateway.cluster.put("pods", pod)
        await until(lambda: routed(gateway) == 1, 0.5)
        found = pod_of(gateway)
        assert found
        assert found.slots == 7


async def test_a_pod_whose_announcement_was_lost_is_probed_until_ready() -> None:
    async with running_gateway(probe_min_s=0.01) as gateway, FakeRuntime(ready=False) as runtime:
        pod = make_pod("chat-1", annotations={ADDRESS: runtime.address})
        await gateway.cluster.put("pods", pod)
        await until(lambda: runtime.num_probes >= 3)
        assert routed(gateway) == 0
        runtime.ready = True
        await until(lambda: routed(gateway) == 1)


async def test_probes_become_rarer() -> None:
    runtime = FakeRuntime(ready=False)
    async with running_gateway(probe_min_s=0.01, probe_max_s=10) as gateway, runtime:
        began = time.monotonic()
        await gateway.announce("chat-1", "Loading", runtime.address)
        await until(lambda: runtime.num_probes >= 5)
        num_doublings = math.log2((time.monotonic() - began) / 0.01)
        assert runtime.num_probes <= 2 + num_doublings


async def test_a_probe_that_hears_of_failure_stops() -> None:
    runtime = FakeRuntime(ready=False, phase="Failed", reason="CheckpointBroken")
    async with running_gateway(probe_min_s=0.01) as gateway, runtime:
        await gateway.announce("chat-1", "Loading", runtime.address)
        await until(lambda: lane_of(gateway).routes.failure)
        assert lane_of(gateway).refusal == "CheckpointBroken here (CheckpointBroken)"
        num = runtime.num_probes
        await asyncio.sleep(0.05)
        assert runtime.num_probes == num


async def test_a_deletion_mark_stops_routing_at_once_and_for_good() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        marked = make_pod("chat-1", deletionTimestamp="2026-11-21T10:00:00Z")
        await gateway.cluster.put("pods", marked)
        await until(lambda: routed(gateway) == 0)
        await gateway.announce("chat-1", "Ready", runtime.address, slots=1)
        assert routed(gateway) == 0


async def test_a_draining_pod_is_left_by_its_own_word() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        await gateway.announce("chat-1", "Draining", runtime.address)
        assert routed(gateway) == 0


async def test_the_last_word_of_an_older_pod_of_the_same_name_is_ignored() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        await gateway.announce("chat-1", "Draining", "10.9.9.9:8000")
        assert routed(gateway) == 1


async def test_a_container_that_starts_again_is_not_routed_until_ready() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        runtime.ready = False
        await gateway.announce("chat-1", "Starting", runtime.address)
        assert routed(gateway) == 0
        await gateway.announce("chat-1", "Ready", runtime.address, slots=1)
        assert routed(gateway) == 1


async def test_a_pod_that_is_gone_is_forgotten_and_its_name_can_come_back() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        old = pod_of(gateway)
        await gateway.cluster.delete("pods", make_pod("chat-1"))
        await until(lambda: pod_of(gateway) is None)
        await gateway.add(runtime)
        assert pod_of(gateway) is not old
        assert routed(gateway) == 1


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_a_pod_that_ended_is_gone(phase: str) -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        pod = make_pod("chat-1")
        pod["status"]["phase"] = phase
        await gateway.cluster.put("pods", pod)
        await until(lambda: pod_of(gateway) is None)


async def test_a_new_list_removes_what_vanished_unseen() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        await until(lambda: gateway.worker.backends._seen)
        await gateway.cluster.forget_quietly("pods", make_pod("chat-1"))
        await until(lambda: pod_of(gateway) is None)
        await gateway.cluster.forget_quietly("deployments", make_deployment())
        await until(lambda: gateway.worker.fleet.get("default/chat") is None)


async def test_an_announced_pod_that_no_watch_ever_sees_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "CONFIRM_S", 0.05)
    async with running_gateway() as gateway:
        await gateway.announce("ghost", "Ready", slots=1)
        assert pod_of(gateway, "ghost")
        await until(lambda: pod_of(gateway, "ghost") is None, 1)


async def test_an_announced_pod_that_answers_stays_while_the_api_server_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "CONFIRM_S", 0.02)
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.announce("chat-1", "Ready", runtime.address, slots=1)
        await until(lambda: runtime.num_probes >= 3)
        assert routed(gateway) == 1


async def test_a_pod_seen_before_its_deployment_serves_when_that_comes() -> None:
    async with running_gateway(deploy=False) as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            assert answer.status == 404
        await gateway.cluster.put("deployments", make_deployment())
        await until(lambda: list(gateway.worker.fleet.directory))
        async with gateway.ask() as answer:
            assert answer.status == 200


async def test_a_deleted_deployment_ends_waits_and_takes_its_series_along() -> None:
    async with running_gateway() as gateway:
        asking = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: lane_of(gateway).busy)
        await gateway.cluster.delete("deployments", make_deployment())
        answer = await asyncio.wait_for(asking, 1)
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")


async def test_a_condition_that_turns_dooms_who_waits_but_not_who_comes_later() -> None:
    async with running_gateway() as gateway:
        asking = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: lane_of(gateway).busy)
        doom = {"type": "ModelAvailable", "status": "False", "reason": "ClaimNotFound"}
        doom |= {"message": "Make the claim", "observedGeneration": 1}
        await gateway.cluster.put("deployments", make_deployment(status={"conditions": [doom]}))
        answer = await asyncio.wait_for(asking, 1)
        assert (await answer.json())["error"]["code"] == "model_unavailable"
        later = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: lane_of(gateway).busy)
        later.cancel()


async def test_a_deployment_that_is_off_refuses_at_once() -> None:
    async with running_gateway() as gateway:
        await gateway.cluster.put("deployments", make_deployment(spec={"replicas": 0}))
        await until(lambda: lane_of(gateway).target.refusal)
        async with gateway.ask() as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "model_unavailable")
        assert "turned off" in error["message"]


async def test_only_listed_namespaces_are_watched() -> None:
    async with running_gateway(watch_namespaces="a,b", deploy=False) as gateway:
        assert gateway.cluster.num_lists == 4
        await gateway.cluster.put("deployments", make_deployment("one", "a"))
        await until(lambda: gateway.worker.fleet.get("a/one"))
