"""What a pool's pod has: read from its manifest, and from its own words."""

from __future__ import annotations

from typing import Any

from stoker_operator.cluster.standby import (
    SaidState,
    admin_address,
    count_preload,
    count_restarts,
    is_standby,
    observe_standby,
    observe_waiting,
    pool_of,
    read_state,
)
from stoker_operator.decide.pool import Seat

WAITS = SaidState("Standby", residents=frozenset({"/models/a"}))


def _pod(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    labels = {"stoker.dev/pool": "shared", "stoker.dev/pool-template": "t"}
    resources = {"requests": {"cpu": "500m", "memory": "2Gi", "nvidia.com/gpu": "1"}}
    container = {"image": "runtime:1", "resources": resources, "args": ["serve", "--preload=a,b"]}
    spec = {
        "containers": [container],
        "nodeName": "n",
        "nodeSelector": {"gpu": "h200"},
        "priorityClassName": "low",
        "runtimeClassName": "nvidia",
        "volumes": [{"persistentVolumeClaim": {"claimName": "models"}}, {"emptyDir": {}}],
    }
    own = {"name": "shared-t-0", "namespace": "ns", "uid": "u", "labels": labels}
    return {"metadata": own | metadata, "spec": spec, "status": status or {}}


def test_what_it_was_given_and_where_it_is() -> None:
    standby = observe_standby(_pod(creationTimestamp="2026-11-21T10:00:00Z"), WAITS)
    assert standby.seat == Seat(
        *("ns", "runtime:1", 1, "nvidia.com/gpu", 0.5, 2.0**31),
        *({"gpu": "h200"}, "low", "nvidia"),
    )
    assert standby.claims == {"models"}
    assert standby.residents == {"/models/a"}
    assert standby.settled
    assert standby.created_at == 1795255200.0


def test_one_that_has_not_spoken_is_not_settled() -> None:
    assert not observe_standby(_pod(), None).settled
    assert not observe_standby(_pod(), SaidState("Starting")).settled


def test_without_requests_there_is_no_limit() -> None:
    pod = _pod()
    del pod["spec"]["containers"][0]["resources"]
    seat = observe_standby(pod, None).seat
    assert (seat.gpus, seat.gpu_resource, seat.cpu, seat.memory_bytes) == (0, "", None, None)


def test_a_pods_answer_is_read_with_its_residents() -> None:
    residents = {"a": {"bytes": 7, "error": ""}, "b": {"bytes": 0, "error": "no room"}}
    state = read_state({"phase": "Ready", "path": "resident", "residents": residents, "new": 1})
    assert state == SaidState("Ready", "resident", residents=frozenset({"a"}), num_preloaded=2)
    assert read_state({}) == SaidState()


def test_who_is_a_standby() -> None:
    assert is_standby(_pod())
    assert pool_of(_pod()) == "ns/shared"
    assert not is_standby(_pod(deletionTimestamp="now"))
    assert not is_standby(_pod(labels={"stoker.dev/pool": "shared", "stoker.dev/deployment": "c"}))
    assert not is_standby(_pod(labels={}))
    assert pool_of(_pod(labels={})) == ""


def test_addresses_restarts_and_preloads_are_read_from_the_manifest() -> None:
    assert admin_address(_pod()) == ""
    assert admin_address(_pod({"podIP": "10.0.0.7"})) == "10.0.0.7:8001"
    assert admin_address(_pod({"podIP": "fd00::7"})) == "[fd00::7]:8001"
    assert count_restarts(_pod({"containerStatuses": [{"restartCount": 2}]})) == 2
    assert count_restarts(_pod()) == 0
    assert count_preload(_pod()) == 2


def test_a_rollout_sees_it_ready_when_it_waits() -> None:
    crashed = {"state": {"waiting": {"reason": "ErrImagePull"}}}
    pod = _pod({"containerStatuses": [crashed]})
    seen = observe_waiting(pod, WAITS)
    assert (seen.ready, seen.failure, seen.template) == (True, None, "t")
    seen = observe_waiting(pod, None)
    assert seen.failure is not None
    assert (seen.ready, seen.failure.reason) == (False, "ImagePullFailed")


def test_one_that_gave_up_says_why() -> None:
    failure = observe_waiting(_pod(), SaidState("Failed", reason="EngineCrashed")).failure
    assert failure is not None
    assert (failure.reason, failure.final) == ("EngineCrashed", True)
    assert failure.message
