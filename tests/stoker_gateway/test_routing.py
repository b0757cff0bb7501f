"""Which pod takes the next request."""

from __future__ import annotations

import pytest

from stoker_gateway.routing import FIRST_PAUSE_S, LONGEST_PAUSE_S, Pod, Routes


def make_routes(**slots: int) -> Routes:
    routes = Routes()
    for name, num_slots in slots.items():
        pod = routes.add(name, now=0)
        pod.address, pod.slots, pod.ready = f"{name}:8000", num_slots, True
    return routes


def pod_of(routes: Routes, name: str) -> Pod:
    pod = routes.get(name)
    assert pod
    return pod


def test_takes_the_least_loaded_pod() -> None:
    routes = make_routes(a=4, b=4)
    taken = [routes.take(now=0) for _ in range(4)]
    assert [pod.name for pod in taken if pod] == ["a", "b", "a", "b"]


def test_load_is_relative_to_slots() -> None:
    routes = make_routes(small=1, large=4)
    taken = [routes.take(now=0) for _ in range(5)]
    names = [pod.name for pod in taken if pod]
    assert sorted(names) == ["large", "large", "large", "large", "small"]
    assert routes.take(now=0) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"ready": False}, id="not ready"),
        pytest.param({"leaving": True}, id="leaving"),
        pytest.param({"address": ""}, id="no address"),
        pytest.param({"running": 1}, id="no free slot"),
        pytest.param({"paused_until": 5.0}, id="paused"),
    ],
)
def test_gives_nothing_to_a_pod_that_is(change: dict[str, object]) -> None:
    routes = make_routes(a=1)
    for name, value in change.items():
        setattr(pod_of(routes, "a"), name, value)
    assert routes.take(now=1) is None
    assert routes.num_free(now=1) == 0


def test_a_returned_slot_is_free_again() -> None:
    routes = make_routes(a=1)
    pod = routes.take(now=0)
    assert pod
    assert routes.take(now=0) is None
    routes.give_back(pod)
    assert routes.take(now=0) is pod


def test_a_slot_cannot_be_returned_twice() -> None:
    routes = make_routes(a=1)
    with pytest.raises(AssertionError, match="a gave back a slot"):
        routes.give_back(pod_of(routes, "a"))


def test_a_full_pod_is_asked_again_after_pauses_that_double_to_a_limit() -> None:
    routes = make_routes(a=8)
    pod = pod_of(routes, "a")
    pauses = []
    for _ in range(8):
        routes.full(pod, now=100)
        pauses.append(round(pod.paused_until - 100, 3))
    assert pauses[:3] == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert routes.next_resume(now=100) == pod.paused_until
    assert routes.next_resume(now=101) is None


def test_an_answer_makes_pauses_short_again() -> None:
    routes = make_routes(a=8)
    pod = pod_of(routes, "a")
    routes.full(pod, now=0)
    routes.answered(pod)
    routes.full(pod, now=0)
    assert pod.paused_until == FIRST_PAUSE_S


def test_a_new_pod_of_the_same_name_starts_with_nothing_running() -> None:
    routes = make_routes(a=1)
    old = routes.take(now=0)
    assert old
    routes.remove("a")
    new = routes.add("a", now=1)
    assert new is not old
    assert new.running == 0
    routes.give_back(old)
    assert new.running == 0


def test_reports_what_runs_where() -> None:
    routes = make_routes(a=2, b=2, c=2)
    for _ in range(2):
        routes.take(now=0)
    assert routes.running == {"a": 1, "b": 1}
    assert routes.num_routed == 3


@pytest.mark.parametrize(
    ("reasons", "certain"),
    [
        pytest.param({}, False, id="no pods"),
        pytest.param({"a": "CheckpointBroken"}, True, id="the only pod"),
        pytest.param({"a": "CheckpointBroken", "b": None}, False, id="another still starts"),
        pytest.param({"a": "EngineCrashed"}, False, id="a reason that may pass"),
        pytest.param({"a": "CheckpointBroken", "b": "OutOfMemory"}, False, id="mixed"),
    ],
)
def test_failure_is_certain_only_when_every_pod_failed_for_good(
    reasons: dict[str, str | None], certain: bool
) -> None:
    routes = Routes()
    for name, reason in reasons.items():
        routes.add(name, now=0).failure = (reason, "why") if reason else None
    assert (routes.failure is not None) is certain


def test_a_leaving_pod_does_not_count_as_failure() -> None:
    routes = Routes()
    pod = routes.add("a", now=0)
    pod.failure, pod.leaving = ("CheckpointBroken", "why"), True
    assert routes.failure is None
