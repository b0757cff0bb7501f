"""Who may adopt which standby: each respect in which one may not fit, and in what order they go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.pool import (
    Need,
    Seat,
    Standby,
    derive_need,
    expect_path,
    find_misfit,
    is_worth_returning,
    may_soon_have,
    next_refill_at,
    pick_standbys,
)
from support.builders import make_llm

SEAT = Seat("ns", "runtime:1", 1, "nvidia.com/gpu", 2.0, 2.0**34, {"gpu": "h200"}, "", "nvidia")
NEED = Need(SEAT, "models", "/models/models/tiny", frozenset({"--seed"}))


def _standby(name: str = "a", **facts: Any) -> Standby:
    defaults: dict[str, Any] = {
        "uid": f"uid-{name}",
        "seat": SEAT,
        "claims": frozenset({"models", "other"}),
        "settled": True,
    }
    return Standby(name=name, **defaults | facts)


def _names(standbys: tuple[Standby, ...]) -> list[str]:
    return [one.name for one in standbys]


def test_what_a_deployment_asks_of_a_pod() -> None:
    llm = make_llm(
        resources={"gpus": 1, "cpu": "500m", "memory": "1Gi"},
        engine={"extraArgs": ["--seed=7"]},
        pod={"nodeSelector": {"a": "b"}, "priorityClassName": "high", "runtimeClassName": "nvidia"},
    )
    need = derive_need(llm, "mine:1", "/models/models/tiny")
    assert need == Need(
        Seat("ns", "mine:1", 1, "nvidia.com/gpu", 0.5, 2.0**30, {"a": "b"}, "high", "nvidia"),
        "models",
        "/models/models/tiny",
        frozenset({"--seed"}),
    )
    bare = derive_need(make_llm(model={"source": "hf://org/name"}), "mine:1", "")
    assert (bare.claim, bare.seat.gpu_resource, bare.seat.cpu) == ("", "", None)


def test_one_that_has_all_that_is_asked_for_fits() -> None:
    assert find_misfit(NEED, _standby()) == ""


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "namespace": ({"namespace": "theirs"}, "namespace ns, the standbys theirs"),
    "image": ({"image": "runtime:2"}, "image runtime:1, the standbys runtime:2"),
    "fewer GPUs": ({"gpus": 0, "gpu_resource": ""}, "1 nvidia.com/gpu, the standbys none"),
    "more GPUs": ({"gpus": 2}, "1 nvidia.com/gpu, the standbys 2 nvidia.com/gpu"),
    "other GPUs": ({"gpu_resource": "amd.com/gpu"}, "the standbys 1 amd.com/gpu"),
    "cpu": ({"cpu": 1.0}, "cpu 2, the standbys have 1"),
    "memory": ({"memory_bytes": 2.0**33}, "memory 1.71799e+10, the standbys have"),
    "nodes": ({"node_selector": {"gpu": "a100"}}, "nodes with {'gpu': 'h200'}"),
    "runtime class": ({"runtime_class": ""}, "runtimeClassName nvidia, the standbys none"),
}


@pytest.mark.parametrize(("facts", "words"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_said_with_both_values(facts: dict[str, Any], words: str) -> None:
    assert words in find_misfit(NEED, _standby(seat=replace(SEAT, **facts)))


@pytest.mark.parametrize(
    "facts",
    [
        {"cpu": 4.0, "memory_bytes": 2.0**40},
        {"cpu": None, "memory_bytes": None},
        {"priority_class": "high"},
        {"node_selector": {"gpu": "h200", "zone": "b"}},
    ],
    ids=["more", "no limit", "a priority nobody asked for", "a narrower place"],
)
def test_more_than_is_asked_for_fits(facts: dict[str, Any]) -> None:
    assert find_misfit(NEED, _standby(seat=replace(SEAT, **facts))) == ""


def test_a_deployment_that_asks_for_little_takes_what_there_is() -> None:
    modest = replace(SEAT, cpu=None, memory_bytes=None, node_selector={}, runtime_class="")
    assert find_misfit(replace(NEED, seat=modest), _standby()) == ""


def test_a_claim_that_is_not_mounted_and_a_flag_of_the_process_do_not_fit() -> None:
    assert "claim models is not mounted" in find_misfit(NEED, _standby(claims=frozenset()))
    assert "claim is none" in find_misfit(replace(NEED, claim=""), _standby()).replace("its ", "")
    fixed = replace(NEED, flags=frozenset({"--seed", "--max-step-s"}))
    assert "--max-step-s is fixed" in find_misfit(fixed, _standby())


def test_those_with_the_weights_go_first_then_the_oldest() -> None:
    young, old = _standby("a", created_at=9.0), _standby("b", created_at=1.0)
    with_weights = _standby("c", created_at=20.0, residents=frozenset({NEED.folder}))
    busy = _standby("d", settled=False)
    alien = _standby("e", seat=replace(SEAT, namespace="theirs"))
    all_of_them = (young, alien, with_weights, busy, old)
    assert _names(pick_standbys(NEED, all_of_them, 9)) == ["c", "b", "a"]
    assert _names(pick_standbys(NEED, all_of_them, 1)) == ["c"]
    assert pick_standbys(NEED, all_of_them, -1) == ()


def test_a_moment_is_waited_only_for_one_that_fits() -> None:
    assert may_soon_have(NEED, [_standby(settled=False, asked=True)])
    assert not may_soon_have(NEED, [_standby(), _standby(settled=False)])
    assert not may_soon_have(NEED, [_standby(asked=True, claims=frozenset())])


def test_the_way_of_the_next_wake_is_that_of_the_first_pick() -> None:
    assert expect_path(NEED, [_standby(settled=False)]) == "fresh"
    assert expect_path(NEED, [_standby()]) == "warm"
    resident = _standby("b", residents=frozenset({NEED.folder}))
    assert expect_path(NEED, [_standby(), resident]) == "resident"


@pytest.mark.parametrize(
    ("template", "settled", "desired", "returns"),
    [("t", 0, 1, True), ("t", 1, 1, False), ("t", 1, 2, True), ("old", 0, 1, False)],
)
def test_a_pod_is_returned_to_a_pool_that_is_short_of_such(
    template: str, settled: int, desired: int, returns: bool
) -> None:
    standbys = [_standby(str(n)) for n in range(settled)] + [_standby("x", settled=False)]
    assert is_worth_returning(template, "t", standbys, desired) is returns


def test_a_refill_waits_for_the_wake_but_not_long() -> None:
    assert next_refill_at([], 100.0) is None
    assert next_refill_at([95.0, 99.0], 100.0) == 109.0
    assert next_refill_at([90.0], 100.0) is None


seats = st.builds(
    Seat,
    namespace=st.sampled_from(["ns", "theirs"]),
    image=st.sampled_from(["a", "b"]),
    gpus=st.integers(0, 2),
    gpu_resource=st.sampled_from(["", "x"]),
    cpu=st.none() | st.integers(1, 3).map(float),
    memory_bytes=st.none() | st.integers(1, 3).map(float),
)
waiting = st.builds(
    Standby,
    name=st.just(""),
    uid=st.just(""),
    seat=seats,
    claims=st.sampled_from([frozenset({"models"}), frozenset({"models", "other"})]),
    settled=st.booleans(),
    residents=st.sampled_from([frozenset(), frozenset({"f"})]),
)
standbys_strategy = st.lists(waiting, max_size=4).map(
    lambda found: [replace(one, name=f"p{n}", uid=f"u{n}") for n, one in enumerate(found)]
)
needs = st.builds(Need, seat=seats, claim=st.sampled_from(["models", "other"]), folder=st.just("f"))


@given(needs, standbys_strategy, st.integers(0, 4))
def test_nothing_is_ever_taken_from_another_namespace_or_without_its_claim(
    need: Need, standbys: list[Standby], count: int
) -> None:
    picked = pick_standbys(need, standbys, count)
    assert len(picked) <= count
    assert len({one.uid for one in picked}) == len(picked)
    for one in picked:
        assert one.settled
        assert one.seat.namespace == need.seat.namespace
        assert one.seat.image == need.seat.image
        assert one.seat.gpus == need.seat.gpus
        assert need.claim in one.claims


@given(needs, standbys_strategy, st.randoms())
def test_the_pick_does_not_depend_on_the_order_of_looking(
    need: Need, standbys: list[Standby], random: Any
) -> None:
    shuffled = list(standbys)
    random.shuffle(shuffled)
    assert pick_standbys(need, standbys, 2) == pick_standbys(need, shuffled, 2)
