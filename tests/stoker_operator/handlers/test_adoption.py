"""From a standby to a replica and back: who wins, what is sent, what a kill or a failure leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker_api import names
from stoker_api.tokens import derive_token
from stoker_operator.decide.pool_size import WakeHistory
from support.fake_cluster import FakeCluster, Killed
from support.operator_world import KEY, make_claim, settle_each
from support.pool_world import POOL, PoolWorld, make_pool, make_warm, name_of, owner_of

TOKEN = derive_token(b"key", "runtime/ns/chat")


@pytest.fixture
async def world() -> PoolWorld:
    """A pool whose standby waits, and a deployment at zero that names it."""
    world = PoolWorld().add(make_pool(), make_warm())
    await world.fill()
    return world


async def test_a_wake_takes_the_standby_and_has_it_load(world: PoolWorld) -> None:
    [standby] = world.standbys
    before = len(world.cluster.writes)
    world.demand(queued=1)
    await world.settle()
    assert world.cluster.writes[before] == ("change", "Pod", f"ns/{name_of(standby)}")
    [pod] = world.of_deployment()
    assert pod["metadata"]["uid"] == standby["metadata"]["uid"]
    assert owner_of(pod) == ("LLMDeployment", "chat")
    [order] = world.ports.orders("/load")
    assert order.address == "10.2.0.1:8001"
    assert order.token == derive_token(b"key", "pool/ns/shared")
    assert json.loads(order.body) == {
        "model": "/models/models/tiny",
        "servedName": "chat",
        "deployment": "chat",
        "token": TOKEN,
    }


async def test_the_pool_refills_behind_the_wake_under_another_name(world: PoolWorld) -> None:
    [first] = world.standbys
    world.demand(queued=1)
    await world.settle()
    assert world.standbys == []
    assert await world.pool_reconciler.reconcile(POOL) == world.now + 10
    [pod] = world.of_deployment()
    world.announce(pod)
    await world.settle()
    [second] = world.standbys
    assert name_of(second) != name_of(first)
    assert (world.pool_status.adopted, world.pool_status.starting) == (1, 1)


async def test_the_pool_does_not_wait_for_ever_for_a_wake(world: PoolWorld) -> None:
    world.demand(queued=1)
    await world.settle()
    world.now += 10
    await world.settle()
    assert len(world.standbys) == 1


@pytest.mark.parametrize("path", ["warm", "resident"])
async def test_the_wake_says_by_which_way_it_came(world: PoolWorld, path: str) -> None:
    if path == "resident":
        world.ports.residents["/models/models/tiny"] = 1000
    await world.wake()
    assert world.status.last_cold_start is not None
    assert world.status.last_cold_start.path == path
    assert world.status.last_cold_start.phases.scheduled is None
    [record] = world.status.cold_starts or []
    assert record.path == path
    [pod] = world.of_deployment()
    assert pod["metadata"]["annotations"][names.ANNOTATION_ADDRESS] == "10.2.0.1:8000"
    assert world.condition("Ready")[1] == "Serving"


async def test_a_standby_that_is_not_settled_or_does_not_fit_is_left_alone() -> None:
    world = PoolWorld().add(make_pool(), make_warm(engine={"image": "mine:1"}))
    await world.fill()
    world.demand(queued=1)
    await world.settle()
    [pod] = world.of_deployment()
    assert names.LABEL_POOL not in pod["metadata"]["labels"]
    assert len(world.standbys) == 1


async def test_an_empty_pool_means_fresh_pods(world: PoolWorld) -> None:
    world.demand(queued=100)
    await world.settle()
    pools = [names.LABEL_POOL in pod["metadata"]["labels"] for pod in world.of_deployment()]
    assert sorted(pools) == [False, False, True]


async def test_of_two_that_want_one_standby_one_gets_it(world: PoolWorld) -> None:
    world.add(make_warm("more"))
    world.keys.append("ns/more")
    await world.settle()
    world.cluster.show(world.snapshot, world.now)
    another = PoolWorld(world.cluster)
    another.ports = world.ports
    another.restart()
    await another.settle()
    stale = another.snapshot
    world.demand(queued=1)
    await world.settle()
    [standby] = [p for p in world.of_deployment() if names.LABEL_POOL in p["metadata"]["labels"]]
    assert stale.get("Pod", f"ns/{name_of(standby)}") != standby, "the other has not seen it yet"
    demand = another.reported.model_copy(update={"deployment": "ns/more", "queued": 1})
    another.ledger.record(("10.0.0.1", 8090), demand, another.now)
    await another.reconciler.reconcile("ns/more")
    assert owner_of(world.cluster.objects["Pod", f"ns/{name_of(standby)}"])[1] == "chat"
    [fresh] = world.of_deployment("more")
    assert names.LABEL_POOL not in fresh["metadata"]["labels"]


async def test_an_operator_killed_between_relabel_and_load_sends_the_order_again(
    world: PoolWorld,
) -> None:
    world.cluster.kill_at, world.cluster.reply_lost = len(world.cluster.writes), True
    world.demand(queued=1)
    with pytest.raises(Killed):
        await world.settle()
    assert world.ports.orders("/load") == []
    world.cluster.kill_at = None
    world.restart()
    await world.settle()
    assert len(world.ports.orders("/load")) == 1
    assert len(world.of_deployment()) == 1
    world.restart()
    await world.settle()
    first, second = world.ports.orders("/load")
    assert first == second, "an order that may be given twice"


async def test_a_pod_that_serves_is_not_told_again_by_a_newer_operator(world: PoolWorld) -> None:
    await world.wake()
    world.ports.refuse = (409, "conflict")
    world.restart()
    world.demand(running=1)
    await world.settle()
    assert len(world.ports.orders("/load")) == 1
    assert world.status.ready_replicas == 1


async def test_a_replica_of_which_the_process_began_anew_is_told_again(world: PoolWorld) -> None:
    await world.wake()
    [pod] = world.of_deployment()
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T10:00:09Z"}}
    containers = [{"name": "runtime", "restartCount": 1, "lastState": ended}]
    world.cluster.put(pod | {"status": pod["status"] | {"containerStatuses": containers}})
    await world.settle()
    assert world.status.ready_replicas == 0
    assert len(world.ports.orders("/load")) == 2
    world.now += 20
    world.announce(world.of_deployment()[0])
    await world.settle()
    assert world.status.ready_replicas == 1


async def test_a_new_operator_hears_its_standbys_before_it_starts_a_fresh_pod(
    world: PoolWorld,
) -> None:
    world.run_containers()
    world.restart()
    world.demand(queued=1)
    world.cluster.show(world.snapshot, world.now)
    world.ports.hearing.clear()
    assert await world.reconciler.reconcile(KEY) == world.now + 0.03
    assert world.of_deployment() == []
    world.ports.hearing.set()
    await world.settle()
    [pod] = world.of_deployment()
    assert names.LABEL_POOL in pod["metadata"]["labels"]


async def test_a_standby_that_does_not_answer_is_not_waited_for(world: PoolWorld) -> None:
    world.run_containers()
    world.restart()
    world.ports.hearing.clear()
    world.demand(queued=1)
    world.cluster.show(world.snapshot, world.now)
    await world.reconciler.reconcile(KEY)
    world.now += 0.6
    await world.reconciler.reconcile(KEY)
    [pod] = world.of_deployment()
    assert names.LABEL_POOL not in pod["metadata"]["labels"]


async def test_a_standby_that_dies_is_given_up_for_a_fresh_pod(world: PoolWorld) -> None:
    world.ports.gate.clear()
    world.demand(queued=1)
    await world.settle()
    [pod] = world.of_deployment()
    world.ports.gone.add("10.2.0.1:8001")
    world.ports.gate.set()
    await world.wait_for(lambda: "AdoptionFailed" in world.events)
    [fresh] = world.of_deployment()
    assert fresh["metadata"]["uid"] != pod["metadata"]["uid"]
    assert names.LABEL_POOL not in fresh["metadata"]["labels"]


@pytest.mark.parametrize("refusal", [(409, "conflict"), (422, "CheckpointBroken"), (400, "x")])
async def test_a_refused_load_is_told_and_not_repeated(
    world: PoolWorld, refusal: tuple[int, str]
) -> None:
    world.ports.refuse = refusal
    world.demand(queued=1)
    await world.wait_for(lambda: "AdoptionFailed" in world.events)
    await world.settle()
    world.place_pods()
    await world.settle()
    [event] = [e for e in world.cluster.of_kind("Event") if e["reason"] == "AdoptionFailed"]
    assert refusal[1] in event["message"]
    assert event["type"] == "Warning"
    assert len(world.ports.orders("/load")) == 1
    [fresh] = world.of_deployment()
    assert names.LABEL_POOL not in fresh["metadata"]["labels"]


async def test_a_standby_whose_engine_is_not_up_is_asked_again(world: PoolWorld) -> None:
    world.ports.starting.add("10.2.0.1:8001")
    world.demand(queued=1)
    await world.settle()
    assert world.ports.loaded == {}
    world.ports.starting.clear()
    await world.wait_for(lambda: bool(world.ports.loaded))
    assert len(world.of_deployment()) == 1


async def test_what_the_kubelet_said_of_an_earlier_model_counts_for_nothing(
    world: PoolWorld,
) -> None:
    [standby] = world.standbys
    ready = {"type": "Ready", "status": "True"}
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-11-21T09:00:00Z"}}
    containers = [{"name": "runtime", "lastState": ended}]
    status = standby["status"] | {"conditions": [ready], "containerStatuses": containers}
    world.cluster.put(standby | {"status": status})
    world.demand(queued=1)
    await world.settle()
    assert world.status.ready_replicas == 0
    assert world.condition("Ready")[1] == "Waking"


async def test_wakes_are_counted_whether_or_not_a_standby_was_there(world: PoolWorld) -> None:
    world.demand(queued=100)
    await world.settle()
    memory = world.pools.known(POOL)
    assert memory is not None
    assert memory.wakes.wakes == pytest.approx(3)
    assert memory.wakes.saved_s > 0
    assert isinstance(memory.wakes, WakeHistory)


async def test_a_deployment_of_another_claim_fits_once_the_standbys_mount_it() -> None:
    world = PoolWorld().add(make_pool(), make_warm())
    world.add(make_claim("other"), make_warm("more", model={"source": "pvc://other/x"}))
    world.keys.append("ns/more")
    await world.fill()
    demand = world.reported.model_copy(update={"deployment": "ns/more", "queued": 1})
    world.ledger.record(("10.0.0.1", 8090), demand, world.now)
    await world.settle()
    [order] = world.ports.orders("/load")
    assert json.loads(order.body)["model"] == "/models/other/x"


async def _live_a_life(world: PoolWorld, from_step: int) -> int:
    """A wake out of the pool, a return to it, a larger pool; in steps."""
    steps: list[Any] = [
        lambda: world.add(make_pool(), make_warm()),
        world.place_pods,
        lambda: world.demand(queued=1),
        lambda: [world.place_pods()] + [world.announce(pod) for pod in world.of_deployment()],
        lambda: world.idle(100),
        lambda: world.add(make_pool(2, size={"min": 2})),
        world.place_pods,
        world.finish_pods,
        world.place_pods,
    ]
    return await settle_each(world, steps, from_step)


def _end_state(world: PoolWorld) -> Any:
    kinds = sorted(key for key in world.cluster.objects if key[0] not in ("Event", "Pod"))
    status = world.pool_status
    owners = sorted(owner_of(pod) for pod in world.pods)
    verdicts = [(c.type, c.status, c.reason) for c in status.conditions]
    return kinds, owners, status.standby, status.adopted, verdicts, world.condition("Ready")


@pytest.mark.parametrize("reply_lost", [False, True], ids=["not-sent", "reply-lost"])
async def test_killed_at_any_write_of_a_pod_it_converges_to_the_same_end(reply_lost: bool) -> None:
    undisturbed = PoolWorld()
    assert await _live_a_life(undisturbed, 0) == 9
    wanted = _end_state(undisturbed)
    assert wanted[1:4] == ([("WarmPool", "shared")] * 2, 2, 0)
    assert undisturbed.ports.orders("/unload"), "a pod returned"
    of_pods = [n for n, write in enumerate(undisturbed.cluster.writes) if write[1] == "Pod"]
    assert {undisturbed.cluster.writes[n][0] for n in of_pods} >= {"create", "change", "annotate"}
    for kill_at in of_pods:
        world = PoolWorld(FakeCluster())
        world.cluster.kill_at, world.cluster.reply_lost = kill_at, reply_lost
        killed_in = await _live_a_life(world, 0)
        world.cluster.kill_at = None
        world.restart()
        await _live_a_life(world, killed_in)
        assert _end_state(world) == wanted, f"killed at write {kill_at}"


def _key_owners(world: PoolWorld) -> list[str]:
    secret = world.cluster.objects["Secret", "ns/shared-pool"]
    return [owner["kind"] for owner in secret["metadata"]["ownerReferences"]]


async def test_the_key_that_an_adopted_pod_starts_with_stays_for_it(world: PoolWorld) -> None:
    """What the container reads when it starts again is fixed: it must not go with the pool."""
    assert _key_owners(world) == ["WarmPool"]
    await world.wake()
    assert _key_owners(world) == ["WarmPool", "Pod"]
    world.restart()
    world.demand(running=1)
    await world.settle()
    assert _key_owners(world) == ["WarmPool", "Pod"]
    shares = [verb for verb, _, _ in world.cluster.writes if verb == "share"]
    assert len(shares) == 2, "once for each process"


async def test_a_pool_that_goes_while_its_standby_is_adopted_takes_it_not_along(
    world: PoolWorld,
) -> None:
    world.demand(queued=1)
    await world.settle()
    del world.cluster.objects["WarmPool", POOL]
    del world.cluster.objects["Secret", "ns/shared-pool"]
    world.restart()
    await world.settle()
    [pod] = world.of_deployment()
    world.announce(pod)
    await world.settle()
    assert world.status.ready_replicas == 1
    assert len(world.ports.orders("/load")) == 2
    world.idle(61)
    await world.settle()
    assert world.live == [], "there is no pool to return to"


async def test_a_deployment_that_goes_while_its_pod_loads_leaves_the_pod_to_the_collector(
    world: PoolWorld,
) -> None:
    """It is owned by what is gone: nobody else takes it, and the pool makes another standby."""
    world.demand(queued=1)
    await world.settle()
    [pod] = world.of_deployment()
    world.demand()
    del world.cluster.objects["LLMDeployment", KEY]
    world.now += 11
    await world.settle()
    assert owner_of(world.of_deployment()[0]) == ("LLMDeployment", "chat")
    assert name_of(pod) not in [name_of(one) for one in world.standbys]
    assert len(world.standbys) == 1
    assert world.ports.orders("/unload") == []
