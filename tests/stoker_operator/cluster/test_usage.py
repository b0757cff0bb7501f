"""The books of GPU time: nothing is lost, nothing is counted twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.cluster.usage import (
    State,
    UsageBook,
    Use,
    count_gpus,
    observe_standby_use,
    observe_use,
)
from support.builders import make_failed, make_pod, make_ready

STATES: tuple[State, ...] = ("loading", "busy", "idle", "warm")


def make_manifest(gpus: int = 0, node: str = "n", **status: Any) -> dict[str, Any]:
    limits = {"cpu": "2", "memory": "4Gi"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    container = {"resources": {"limits": limits}}
    return {"spec": {"nodeName": node, "containers": [container]}, "status": status}


def spent(book: UsageBook, now: float) -> dict[tuple[str, str], tuple[float, float]]:
    return {(s.owner, s.state): (s.replica_s, s.gpu_s) for s in book.total(now)}


def test_a_life_is_counted_state_by_state() -> None:
    book = UsageBook()
    book.look("ns/chat", {"a": Use("loading", 2)}, 10)
    book.look("ns/chat", {"a": Use("busy", 2)}, 13)
    book.look("ns/chat", {"a": Use("idle", 2)}, 20)
    book.look("ns/chat", {}, 25)
    assert spent(book, 99) == {
        ("ns/chat", "loading"): (3, 6),
        ("ns/chat", "busy"): (7, 14),
        ("ns/chat", "idle"): (5, 10),
    }


def test_what_goes_on_is_counted_when_somebody_looks() -> None:
    book = UsageBook()
    book.look("ns/chat", {"a": Use("busy", 1)}, 0)
    assert spent(book, 60)["ns/chat", "busy"] == (60, 60)
    assert spent(book, 90)["ns/chat", "busy"] == (90, 90)


def test_a_standby_that_is_adopted_changes_hands_at_once() -> None:
    book = UsageBook()
    book.look("ns/pool", {"a": Use("warm", 1)}, 0)
    book.look("ns/chat", {"a": Use("loading", 1)}, 10)
    book.look("ns/pool", {}, 12)
    assert spent(book, 20) == {("ns/pool", "warm"): (10, 10), ("ns/chat", "loading"): (10, 10)}


def test_an_owner_that_is_gone_leaves_no_series() -> None:
    book = UsageBook()
    book.look("ns/chat", {"a": Use("busy", 1)}, 0)
    book.forget("ns/chat")
    assert spent(book, 9) == {}


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    book = UsageBook()
    book.look("ns/chat", {"a": Use("busy", 1)}, 100)
    before = spent(book, 110)
    book.look("ns/chat", {"a": Use("busy", 1)}, 50)
    assert spent(book, 60)["ns/chat", "busy"] >= before["ns/chat", "busy"]


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 100),
            st.sampled_from(["one", "two"]),
            st.dictionaries(st.sampled_from("abcd"), st.sampled_from(STATES)),
        )
    )
)
def test_the_sums_of_all_states_are_the_pods_lifetimes(
    looks: list[tuple[float, str, dict[str, State]]],
) -> None:
    book, now, lived_s = UsageBook(), 0.0, 0.0
    owner_of: dict[str, str] = {}
    for pause_s, owner, states in looks:
        now += pause_s
        lived_s += pause_s * len(owner_of)
        book.look(owner, {uid: Use(state, 2) for uid, state in states.items()}, now)
        owner_of = {uid: other for uid, other in owner_of.items() if other != owner}
        owner_of |= dict.fromkeys(states, owner)
    total = list(book.total(now))
    assert sum(one.replica_s for one in total) == pytest.approx(lived_s)
    assert sum(one.gpu_s for one in total) == pytest.approx(2 * lived_s)


@pytest.mark.parametrize(
    ("pod", "state"),
    [
        pytest.param(make_pod(scheduled=False), None, id="no node"),
        pytest.param(make_pod(), "loading", id="starting"),
        pytest.param(make_ready(), "idle", id="ready"),
        pytest.param(make_ready(running=1), "busy", id="answering"),
        pytest.param(make_pod(terminating=True), "idle", id="drained"),
        pytest.param(make_pod(terminating=True, running=2), "busy", id="draining"),
        pytest.param(make_failed(), "idle", id="failed, kept to be looked at"),
    ],
)
def test_what_a_replica_does(pod: Any, state: str | None) -> None:
    use = observe_use(make_manifest(gpus=4), pod)
    assert (use and use.state) == state
    assert use is None or use.gpus == 4


def test_a_standby_is_warm_once_its_process_runs() -> None:
    running = {"containerStatuses": [{"name": "runtime", "state": {"running": {}}}]}
    assert observe_standby_use(make_manifest(node="")) is None
    assert observe_standby_use(make_manifest()) == Use("loading", 0)
    assert observe_standby_use(make_manifest(1, **running)) == Use("warm", 1)


def test_only_devices_are_counted() -> None:
    assert (count_gpus(make_manifest()), count_gpus(make_manifest(2))) == (0, 2)
