"""The NetworkPolicy of runtime pods against its expected manifest, and what it must never open."""

from __future__ import annotations

from stoker_operator.build.network_policy import Release, build_network_policy
from support.builders import make_llm, make_warm_pool
from support.golden import check_golden

POLICY = build_network_policy(make_llm(), Release("stoker-system", "stoker"))


def test_golden_network_policy() -> None:
    check_golden("network-policy", [POLICY])


def test_every_way_in_and_out_names_its_peers_and_ports() -> None:
    ways = [*POLICY["spec"]["ingress"], *POLICY["spec"]["egress"]]
    assert all(way.get("from") or way.get("to") for way in ways)
    assert all(way["ports"] for way in ways)


def test_an_adopted_pod_is_closed_by_the_policy_of_its_pool_as_well() -> None:
    policy = build_network_policy(make_warm_pool(), Release("stoker-system", "stoker"))
    assert policy["metadata"]["name"] == "shared-pool"
    assert policy["spec"]["podSelector"]["matchLabels"]["stoker.dev/pool"] == "shared"
    assert policy["spec"]["ingress"] == POLICY["spec"]["ingress"]
    assert policy["spec"]["egress"] == POLICY["spec"]["egress"]


def test_without_a_release_the_namespace_alone_chooses() -> None:
    [way] = build_network_policy(make_llm(), Release("stoker"))["spec"]["egress"]
    assert way["to"][0]["podSelector"]["matchLabels"] == {}
