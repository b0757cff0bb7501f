"""The harness' `network.py`, without a cluster."""

import pytest

from e2e.harness.network import Plan, free_plan
from e2e.harness.settings import HarnessError


def test_addresses_of_a_cluster_lie_in_its_own_range() -> None:
    plan = Plan(3)
    assert plan.link == "stoker3"
    assert (plan.host_ip, plan.node_ip) == ("10.203.0.1", "10.203.0.2")
    assert (plan.pod_cidr, plan.service_cidr) == ("10.203.64.0/18", "10.203.128.0/20")


def test_a_new_cluster_gets_the_first_free_number() -> None:
    assert free_plan([], []) == Plan(0)
    assert free_plan([0, 2], []) == Plan(1)


@pytest.mark.parametrize("route", ["10.200.0.0/24", "10.200.64.0/18", "10.0.0.0/9", "10.200.7.1"])
def test_ranges_that_the_machine_routes_elsewhere_are_avoided(route: str) -> None:
    expected = 0 if route == "10.0.0.0/9" else 1
    assert free_plan([], [route]) == Plan(expected)


def test_no_free_range_is_said_so() -> None:
    with pytest.raises(HarnessError, match="no free address range"):
        free_plan([], ["10.128.0.0/9"])
