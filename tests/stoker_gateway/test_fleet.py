"""Which lanes exist."""

from __future__ import annotations

from stoker_gateway.fleet import Fleet
from stoker_gateway.lane import Bounds
from stoker_gateway.target import Target

CHAT = Target("default", "chat", "chat")


def make_fleet() -> Fleet:
    return Fleet(Bounds(10, 1000))


def test_a_pod_heard_of_first_and_its_deployment_share_a_lane() -> None:
    fleet = make_fleet()
    early = fleet.lane("default/chat", now=0)
    assert fleet.directory.find("chat") is None
    assert fleet.put(CHAT, now=1) is early
    assert fleet.directory.find("chat") is CHAT


def test_who_waits_for_a_deleted_deployment_is_told() -> None:
    fleet = make_fleet()
    held = fleet.put(CHAT, now=0).enter(1, now=0)
    fleet.remove("default/chat", now=1)
    assert held.error
    assert (held.error.status, held.error.code) == (404, "model_not_found")


def test_removing_an_unknown_deployment_is_nothing() -> None:
    assert make_fleet().remove("default/chat", now=0) is None


def test_a_lane_stays_while_its_pods_or_requests_do() -> None:
    fleet = make_fleet()
    lane = fleet.put(CHAT, now=0)
    pod = lane.routes.add("a", now=0)
    pod.address, pod.slots, pod.ready = "a:1", 1, True
    held = lane.enter(1, now=0)
    fleet.remove("default/chat", now=1)
    assert fleet.forget_empty() == []
    lane.routes.remove("a")
    assert fleet.forget_empty() == []
    lane.leave(held, now=2)
    assert fleet.forget_empty() == [lane]
    assert list(fleet) == []


def test_a_wanted_lane_is_never_dropped() -> None:
    fleet = make_fleet()
    fleet.put(CHAT, now=0)
    assert fleet.forget_empty() == []
