"""Reconciling: from a deployment that appears to pods, marks, status, and back to nothing."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from stoker_api.tokens import derive_token
from stoker_operator.errors import Conflict, Rejected
from support.fake_cluster import FakeCluster
from support.operator_world import KEY, OperatorWorld, make_claim, make_deployment, settle_each


@pytest.fixture
def world() -> OperatorWorld:
    """A cluster with one claim and one deployment."""
    world = OperatorWorld()
    world.cluster.put(make_claim())
    world.cluster.put(make_deployment())
    return world


async def test_a_new_deployment_gets_its_children_and_sleeps(world: OperatorWorld) -> None:
    await world.settle()
    [secret] = world.cluster.of_kind("Secret")
    assert secret["metadata"]["name"] == "chat-runtime"
    assert [s["metadata"]["name"] for s in world.cluster.of_kind("Service")] == [
        "chat",
        "chat-pods",
    ]
    assert world.pods == []
    assert world.condition("Ready")[:2] == ("True", "ScaledToZero")
    assert derive_token(b"key", "runtime/ns/chat")


async def test_a_wake_writes_the_pod_before_anything_else(world: OperatorWorld) -> None:
    await world.settle()
    before = len(world.cluster.writes)
    world.demand(queued=3)
    await world.settle()
    assert world.cluster.writes[before][:2] == ("apply", "Pod")
    assert world.condition("Ready")[1] == "Waking"
    assert world.status.scaling is not None
    assert world.status.scaling.reason == "DemandAtZero"


async def test_a_replica_gets_all_the_gpus_that_it_asks_for(world: OperatorWorld) -> None:
    world.cluster.put(make_deployment(resources={"gpus": 4}))
    world.demand(queued=1)
    await world.settle()
    [pod] = world.pods
    [container] = pod["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert "--tensor-parallel=4" in container["args"]


async def test_a_wake_to_serving_and_back_to_zero(world: OperatorWorld) -> None:
    world.demand(queued=3)
    await world.settle()
    world.run_pods()
    await world.settle()
    [pod] = world.pods
    assert pod["metadata"]["annotations"]["stoker.dev/address"] == "10.2.0.1:8000"
    assert world.status.last_cold_start is not None
    assert world.status.last_cold_start.total == pytest.approx(2.0)
    assert world.condition("Ready")[1] == "Serving"
    world.demand(idle_s=0)
    look_at = await world.settle()
    assert look_at == pytest.approx(world.now + 10)  # the numbers of the status are refreshed
    world.now += 61
    await world.settle()
    assert world.live == []
    assert world.condition("Ready")[1] == "ScaledToZero"
    assert world.events == ["DemandAtZero", "Serving", "IdleTimeout"]


async def test_what_a_replica_found_is_told_once(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    assert world.condition("Fits")[:2] == ("Unknown", "NotMeasured")
    sizes = {"weight_bytes": 2**30, "kv_bytes_per_token": 1024, "memory_bytes": 2**32}
    world.run_pods(room=sizes | {"tokens": 8192, "max_model_len": 4096})
    await world.settle()
    assert world.condition("Fits")[:2] == ("True", "EnoughMemory")
    assert "2 sequences of 4096 tokens" in world.condition("Fits")[2]
    assert world.status.scaling is not None
    assert [change.reason for change in world.status.scaling.changes] == ["DemandAtZero"]


async def test_a_name_that_promises_too_much_is_told_and_tried(world: OperatorWorld) -> None:
    too_large = {
        "model": {"source": "pvc://models/llama-70b"},
        "resources": {"gpus": 0, "memory": "8Gi"},
    }
    world.cluster.put(make_deployment(**too_large))
    world.demand(queued=1)
    await world.settle()
    assert world.condition("Fits")[:2] == ("False", "LikelyTooLarge")
    assert "Would fit: resources.memory: 157Gi" in world.condition("Fits")[2]
    assert len(world.live) == 1
    assert world.condition("Ready")[1] == "Waking"


async def test_writes_nothing_when_nothing_has_changed(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    await world.settle()
    before = len(world.cluster.writes)
    for _ in range(50):
        world.now += 1
        world.demand(queued=1)
        await world.settle()
    assert len(world.cluster.writes) - before <= 5  # the numbers of the status, every 10 s
    await world.settle()
    world.demand(queued=0, running=1)
    await world.settle()
    before = len(world.cluster.writes)
    world.now += 10
    await world.settle()
    world.now += 30
    await world.settle()
    assert len(world.cluster.writes) == before


async def test_a_terminating_pod_never_blocks_a_new_one(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    await world.settle()
    world.idle(61)
    await world.settle()
    assert world.live == []
    assert len(world.pods) == 1
    world.demand(queued=1)
    await world.settle()
    assert len(world.live) == 1
    assert len(world.pods) == 2


async def test_pods_of_an_earlier_deployment_of_the_name_are_not_replicas(
    world: OperatorWorld,
) -> None:
    world.demand(queued=1)
    await world.settle()
    [first] = world.live
    del world.cluster.objects["LLMDeployment", KEY]
    await world.settle()
    world.cluster.put(make_deployment())
    world.demand(queued=1)
    await world.settle()
    assert len(world.live) == 2
    assert world.status.replicas == 1
    assert first in world.live


async def test_a_name_that_is_taken_by_a_leaving_pod_is_passed_over(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    [pod] = world.pods
    leaving = pod["metadata"] | {"deletionTimestamp": "now"}
    world.restart()
    world.cluster.show(world.snapshot, world.now)
    world.snapshot.remove(pod, "Pod")
    world.cluster.objects["Pod", f"ns/{leaving['name']}"] = pod | {"metadata": leaving}
    with pytest.raises(Conflict, match="on its way out"):
        await world.reconciler.reconcile(KEY)
    await world.reconciler.reconcile(KEY)
    assert len(world.live) == 1


async def test_the_way_from_demand_to_pod_is_measured(world: OperatorWorld) -> None:
    def count() -> float:
        name = "stoker_operator_demand_to_pod_seconds_count"
        return REGISTRY.get_sample_value(name) or 0.0

    before = count()
    world.demand(queued=1)
    world.reconciler.note_demand(KEY)
    await world.settle()
    world.reconciler.note_demand(KEY)
    await world.settle()
    assert count() == before + 1


async def test_a_pod_that_vanished_meanwhile_is_no_error(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    del world.cluster.objects["Pod", f"ns/{world.live[0]}"]
    await world.reconciler.reconcile(KEY)
    assert world.snapshot.pods(KEY) == []
    await world.settle()
    world.run_pods()
    await world.settle()
    world.idle(61)
    del world.cluster.objects["Pod", f"ns/{world.live[0]}"]
    await world.reconciler.reconcile(KEY)
    assert world.snapshot.pods(KEY) == []


async def test_a_leader_that_comes_back_believes_the_objects(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    another = OperatorWorld(world.cluster)
    another.demand(queued=100, running=0)
    await another.settle()
    assert len(world.live) == 3
    world.reconciler.reset()
    world.demand(queued=0, running=1)
    await world.settle()
    assert len(world.live) == 3


async def test_a_broken_checkpoint_is_named_and_not_tried_again_at_once(
    world: OperatorWorld,
) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods("Failed", reason="CheckpointBroken", message="x.safetensors: truncated")
    look_at = await world.settle()
    assert world.condition("Ready") == ("False", "CheckpointBroken", "x.safetensors: truncated")
    assert world.condition("ModelAvailable")[:2] == ("False", "CheckpointBroken")
    assert "CheckpointBroken" in world.events
    assert look_at == world.now + 5
    [failed] = world.live
    world.now += 5
    await world.settle()
    assert [name for name in world.live if name != failed], "a new try"
    assert failed not in world.live
    assert world.condition("Ready")[1] == "CheckpointBroken"


async def test_a_changed_spec_is_tried_at_once_after_a_failure(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods("Failed", reason="CheckpointNotFound", message="no folder")
    await world.settle()
    [failed] = world.live
    model = {"source": "pvc://models/other"}
    world.cluster.put(make_deployment(generation=2, model=model))
    await world.settle()
    [pod] = world.live
    assert pod != failed
    assert world.condition("Ready")[1] == "Waking"


async def test_a_failed_model_at_zero_does_not_claim_to_be_ready_after_a_restart(
    world: OperatorWorld,
) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods("Failed", reason="CheckpointNotFound", message="no folder")
    await world.settle()
    world.idle(61)
    await world.settle()
    world.finish_pods()
    world.restart()
    await world.settle()
    assert world.pods == []
    assert world.condition("Ready")[:2] == ("False", "CheckpointNotFound")


async def test_a_refused_pod_is_reported_and_tried_again_later(world: OperatorWorld) -> None:
    world.cluster.refuse["Pod"] = Rejected("exceeded quota: gpus", 403)
    world.demand(queued=1)
    look_at = await world.settle()
    assert world.condition("Scheduled")[:2] == ("False", "PodRejected")
    assert world.condition("Ready")[:2] == ("False", "PodRejected")
    assert look_at == world.now + 10
    tries = [write for write in world.cluster.writes if write[1] == "Pod"]
    assert len(tries) == 1
    del world.cluster.refuse["Pod"]
    world.now += 10
    await world.settle()
    assert len(world.live) == 1
    assert world.condition("Ready")[1] == "Waking"


async def test_a_missing_claim_makes_no_pod_until_it_comes() -> None:
    world = OperatorWorld()
    world.cluster.put(make_deployment())
    world.demand(queued=1)
    await world.settle()
    assert world.pods == []
    assert world.condition("Ready")[1] == "ClaimNotFound"
    world.cluster.put(make_claim())
    await world.settle()
    assert len(world.live) == 1


async def test_somebody_elses_service_is_left_alone(world: OperatorWorld) -> None:
    theirs = {"kind": "Service", "metadata": {"name": "chat", "namespace": "ns"}, "spec": {"a": 1}}
    world.cluster.put(theirs)
    for key in [each for each in world.cluster.objects if each[0] == "Service"]:
        world.cluster.objects[key]["metadata"]["labels"] = {}
    world.snapshot.upsert = _without_services(world)  # type: ignore[method-assign]
    await world.settle()
    assert world.cluster.objects["Service", KEY]["spec"] == {"a": 1}


def _without_services(world: OperatorWorld) -> Any:
    """As a watch with a label selector does: what has no label of ours is not seen."""
    upsert = world.snapshot.upsert

    def seen(manifest: Any, kind: str, now: float) -> bool:
        labelled = bool(manifest["metadata"].get("labels"))
        return upsert(manifest, kind, now) if kind != "Service" or labelled else False

    return seen


async def test_an_unreadable_spec_is_reported_by_field(world: OperatorWorld) -> None:
    world.cluster.put(make_deployment(generation=2, resources={"gpus": "many"}))
    await world.settle()
    status, reason, message = world.condition("Ready")
    assert (status, reason) == ("False", "InvalidSpec")
    assert message.startswith("spec.resources.gpus: ")


async def test_after_a_restart_nothing_is_scaled_down_before_gateways_report(
    world: OperatorWorld,
) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    await world.settle()
    world.demand(idle_s=59)
    world.now += 2
    world.restart()
    world.ledger.disconnect(("10.0.0.1", 8090), world.now)
    await world.settle()
    assert len(world.live) == 1
    assert world.condition("Scaling")[:2] == ("Unknown", "DemandUnknown")


async def test_a_crashed_container_loses_its_address(world: OperatorWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.run_pods()
    await world.settle()
    [pod] = world.pods
    world.announce(pod, "Starting", phases={"container": world.now + 60})
    await world.settle()
    assert "stoker.dev/address" not in world.pods[0]["metadata"]["annotations"]
    assert world.condition("Ready")[1] == "Waking"


async def _live_a_life(world: OperatorWorld, from_step: int) -> int:
    """A deployment's life in steps; a kill leaves the number of the step it happened in."""
    steps: list[Any] = [
        lambda: world.cluster.put(make_deployment()),
        lambda: world.demand(queued=3),
        world.run_pods,
        lambda: world.demand(queued=60, running=32),
        world.run_pods,
        lambda: world.cluster.put(make_deployment(2, engine={"maxModelLen": 512})),
        *([world.run_pods, world.finish_pods] * 4),
        lambda: world.idle(100),
        world.finish_pods,
    ]
    return await settle_each(world, steps, from_step)


def _end_state(world: OperatorWorld) -> Any:
    """All that lasts, without what counts writes or tells the time."""
    status = world.status.model_dump(exclude={"last_cold_start", "cold_starts"})
    for condition in status["conditions"]:
        del condition["last_transition_time"]
    del status["scaling"]["changes"]
    return {key for key in world.cluster.objects if key[0] != "Event"}, status


@pytest.mark.parametrize("reply_lost", [False, True], ids=["not-sent", "reply-lost"])
async def test_killed_at_any_write_it_converges_to_the_same_end(reply_lost: bool) -> None:
    undisturbed = OperatorWorld()
    undisturbed.cluster.put(make_claim())
    await _live_a_life(undisturbed, 0)
    wanted = _end_state(undisturbed)
    num_writes = len(undisturbed.cluster.writes)
    assert num_writes > 30
    assert undisturbed.pods == []
    for kill_at in range(num_writes):
        world = OperatorWorld(FakeCluster())
        world.cluster.put(make_claim())
        world.cluster.kill_at, world.cluster.reply_lost = kill_at, reply_lost
        killed_in = await _live_a_life(world, 0)
        world.cluster.kill_at = None
        world.restart()
        assert await _live_a_life(world, killed_in) == await _live_a_life(world, 99)
        assert _end_state(world) == wanted, f"killed at write {kill_at}"
