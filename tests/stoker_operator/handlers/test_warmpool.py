"""A pool's life: standbys are made, replaced one by one, refilled, and told about."""

from __future__ import annotations

import base64

from stoker_api import names
from stoker_api.tokens import derive_token
from stoker_operator.errors import NotFound, Rejected
from support.operator_world import make_claim
from support.pool_world import POOL, PoolWorld, make_pool, make_warm, name_of, owner_of


async def test_a_pool_is_filled_with_standbys_of_its_own() -> None:
    world = PoolWorld().add(make_pool(size={"min": 2}))
    await world.settle()
    assert world.pool_condition("Ready")[:2] == ("False", "PoolEmpty")
    assert [owner_of(pod) for pod in world.standbys] == [("WarmPool", "shared")] * 2
    [secret] = [
        s for s in world.cluster.of_kind("Secret") if s["metadata"]["name"] == "shared-pool"
    ]
    token = derive_token(b"key", "pool/ns/shared")
    assert base64.b64decode(secret["data"]["token"]).decode() == token
    world.place_pods()
    await world.settle()
    assert world.pool_condition("Ready")[:2] == ("True", "StandbyWaits")
    assert (world.pool_status.standby, world.pool_status.starting) == (2, 0)
    assert {call.token for call in world.ports.calls} == {token}


async def test_a_full_pool_is_left_in_peace() -> None:
    world = PoolWorld().add(make_pool(), make_warm())
    await world.fill()
    writes, calls = len(world.cluster.writes), len(world.ports.calls)
    for _ in range(5):
        world.now += 600
        world.demand(idle_s=600)
        assert await world.settle() is None
    assert (len(world.cluster.writes), len(world.ports.calls)) == (writes, calls)


async def test_a_new_claim_replaces_the_standbys_one_by_one() -> None:
    world = PoolWorld().add(make_pool(size={"min": 2}), make_warm())
    await world.fill()
    before = {name_of(pod) for pod in world.standbys}
    world.add(make_claim("other"), make_warm("more", model={"source": "pvc://other/x"}))
    waiting = []
    for _ in range(6):
        await world.settle()
        waiting.append(world.pool_status.standby)
        world.place_pods()
        world.finish_pods()
    after = {name_of(pod) for pod in world.standbys}
    assert len(after) == 2
    assert not before & after
    assert min(waiting) == 2, "there are always two that can be adopted"
    mounts = [v["mountPath"] for v in world.standbys[0]["spec"]["containers"][0]["volumeMounts"]]
    assert mounts == ["/models/models", "/models/other", "/tmp"]


async def test_without_room_for_one_more_a_standby_goes_first() -> None:
    world = PoolWorld().add(make_pool())
    await world.fill()
    [first] = world.standbys
    world.add(make_pool(2, resources={"gpus": 0, "memory": "2Gi"}))
    await world.settle()
    [stuck] = [pod for pod in world.standbys if pod["metadata"]["uid"] != first["metadata"]["uid"]]
    waiting = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/1 nodes."}
    conditions = [waiting | {"lastTransitionTime": "2026-11-21T10:00:00Z"}]
    world.cluster.put(stuck | {"status": {"conditions": conditions}})
    assert await world.settle() == world.now + 5
    assert world.pool_condition("Scheduled")[:2] == ("False", "Unschedulable")
    world.now += 6
    await world.settle()
    assert [name_of(pod) for pod in world.standbys] == [name_of(stuck)]


async def test_where_a_quota_refuses_one_more_a_standby_makes_way() -> None:
    world = PoolWorld().add(make_pool())
    await world.fill()
    world.add(make_pool(2, resources={"gpus": 0, "memory": "2Gi"}))
    world.cluster.refuse_creates = Rejected("exceeded quota: pods", 403)
    await world.settle()
    [old] = world.standbys
    world.now += 10
    await world.settle()
    assert name_of(old) not in [name_of(pod) for pod in world.standbys]
    world.cluster.refuse_creates = None
    world.now += 10
    await world.settle()
    assert len(world.standbys) == 1


async def test_what_cannot_be_mounted_is_named_and_left_out() -> None:
    world = PoolWorld().add(
        make_pool(preload=["pvc://models/tiny", "hf://org/large"]),
        make_warm(model={"source": "pvc://typo/x"}),
    )
    await world.settle()
    status, reason, message = world.pool_condition("ModelAvailable")
    assert (status, reason) == ("False", "ClaimNotFound")
    assert "hf://org/large" in message
    assert "pvc://typo/x" in message
    [pod] = world.standbys
    assert "--preload=/models/models/tiny" in pod["spec"]["containers"][0]["args"]


async def test_deployments_that_can_never_adopt_are_named() -> None:
    world = PoolWorld().add(make_pool(), make_warm(engine={"image": "mine:1"}))
    await world.fill()
    status, reason, message = world.pool_condition("Fits")
    assert (status, reason) == ("False", "DeploymentsUnfit")
    assert "chat: it runs image mine:1, the standbys cpu:1" in message
    world.add(make_warm())
    await world.settle()
    assert world.pool_condition("Fits")[:2] == ("True", "DeploymentsFit")


async def test_a_standby_of_which_the_process_began_anew_is_asked_again() -> None:
    world = PoolWorld().add(make_pool())
    await world.fill()
    [pod] = world.standbys
    status = pod["status"] | {"containerStatuses": [{"name": "runtime", "restartCount": 1}]}
    world.cluster.put(pod | {"status": status})
    world.ports.starting.add("10.2.0.1:8001")
    await world.settle()
    assert world.pool_status.standby == 0
    assert world.pool_condition("Progressing")[1] == "Starting"


async def test_a_standby_that_cannot_start_is_not_made_in_a_loop() -> None:
    world = PoolWorld().add(make_pool())
    await world.settle()
    world.place_pods()
    [pod] = world.pods
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    containers = [{"name": "runtime", "state": {"waiting": waiting}}]
    world.cluster.put(pod | {"status": {"phase": "Pending", "containerStatuses": containers}})
    await world.settle()
    assert world.pool_condition("Ready")[:2] == ("False", "ImagePullFailed")
    assert len(world.pods) == 1


async def test_a_refused_standby_is_reported_and_tried_again_later() -> None:
    world = PoolWorld().add(make_pool())
    world.cluster.refuse["Pod"] = Rejected("exceeded quota: pods", 403)
    assert await world.settle() == world.now + 10
    assert world.pool_condition("Ready")[:2] == ("False", "PodRejected")
    del world.cluster.refuse["Pod"]
    world.now += 10
    await world.settle()
    assert len(world.standbys) == 1
    assert world.pool_condition("Scheduled")[1] == "PodsPending"


async def test_pods_of_an_earlier_pool_of_the_name_are_no_standbys() -> None:
    world = PoolWorld().add(make_pool())
    await world.fill()
    del world.cluster.objects["WarmPool", POOL]
    await world.settle()
    world.add(make_pool())
    await world.settle()
    assert len(world.pods) == 2
    assert world.pool_status.standby == 0


async def test_a_smaller_pool_lets_the_surplus_go() -> None:
    world = PoolWorld().add(make_pool(size={"min": 3}))
    await world.fill()
    world.add(make_pool(2, size={"min": 0}))
    await world.settle()
    assert world.standbys == []
    assert set(world.cluster.graces.values()) == {5}, "there is nothing to finish"
    assert world.pool_condition("Ready")[:2] == ("True", "StandbyWaits")


async def test_the_standbys_of_a_pool_that_is_gone_go_at_once() -> None:
    world = PoolWorld().add(make_pool())
    await world.fill()
    del world.cluster.objects["WarmPool", POOL]
    await world.settle()
    assert world.standbys == []
    assert set(world.cluster.graces.values()) == {5}


async def test_leaves_alone_what_is_gone_leaving_or_unreadable() -> None:
    world = PoolWorld().add(make_pool(size="many"))
    await world.settle()
    leaving = make_pool()
    leaving["metadata"]["deletionTimestamp"] = "now"
    world.add(leaving)
    await world.settle()
    assert not [write for write in world.cluster.writes if write[2].startswith(POOL)]


async def test_a_pool_that_vanishes_meanwhile_is_forgotten() -> None:
    world = PoolWorld().add(make_pool())
    world.cluster.refuse["WarmPool"] = NotFound("gone")
    world.cluster.show(world.snapshot, world.now)
    await world.pool_reconciler.reconcile(POOL)
    assert world.snapshot.get("WarmPool", POOL) is None


async def test_standbys_have_no_label_of_a_deployment() -> None:
    world = PoolWorld().add(make_pool(pod={"labels": {"team": "a"}, "nodeSelector": {"x": "y"}}))
    await world.settle()
    [pod] = world.standbys
    assert names.LABEL_DEPLOYMENT not in pod["metadata"]["labels"]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["spec"]["nodeSelector"] == {"x": "y"}


async def test_what_sizes_a_pool_survives_a_restart() -> None:
    """Wakes that standbys hardly shorten are worth few of them, whoever counts them."""
    world = PoolWorld().add(make_pool(size={"min": 1, "max": 5}), make_warm())
    await world.fill()
    memory = world.pools.known(POOL)
    assert memory is not None
    memory.wakes = memory.wakes.with_wakes(200, 0.05, world.now).with_refill(4.0).with_refill(40.0)
    await world.settle()
    sizing, wakes = world.pool_status.sizing, world.pool_status.wakes
    assert wakes is not None
    world.restart()
    await world.settle()
    assert (world.pool_status.sizing, world.pool_status.wakes) == (sizing, wakes)
    recalled = world.pools.known(POOL)
    assert recalled is not None
    assert recalled.wakes == memory.wakes
    writes = len(world.cluster.writes)
    world.now += 600
    await world.settle()
    assert len(world.cluster.writes) == writes, "time alone is no news"
