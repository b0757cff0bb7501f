"""Addresses of a local cluster, and the link between its network namespace and the machine's.

The plan is pure: one number per cluster decides every address, so clusters never collide. It knows
nothing of Kubernetes. Called by `local.py` and `node.py`.
"""

import ipaddress
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.settings import HarnessError

_FIRST, _LAST = 200, 250


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses of cluster number `index`: all within 10.<200 + index>.0.0/16."""

    index: int

    @property
    def _prefix(self) -> str:
        return f"10.{_FIRST + self.index}"

    @property
    def link(self) -> str:
        """The machine's end of the veth pair."""
        return f"stoker{self.index}"

    @property
    def host_ip(self) -> str:
        """The machine as the cluster sees it."""
        return f"{self._prefix}.0.1"

    @property
    def node_ip(self) -> str:
        """The node as the machine and the pods see it."""
        return f"{self._prefix}.0.2"

    @property
    def pod_cidr(self) -> str:
        """Pods: 16 thousand addresses, so that none is reused soon."""
        return f"{self._prefix}.64.0/18"

    @property
    def service_cidr(self) -> str:
        """ClusterIPs."""
        return f"{self._prefix}.128.0/20"


def free_plan(taken: Iterable[int], routes: Iterable[str]) -> Plan:
    """The first number that no cluster has and whose addresses the machine has no route to."""
    busy = [ipaddress.ip_network(route, strict=False) for route in routes]
    for index in range(_LAST - _FIRST):
        network = ipaddress.ip_network(f"10.{_FIRST + index}.0.0/16")
        if index not in taken and not any(network.overlaps(route) for route in busy):
            return Plan(index)
    raise HarnessError(f"no free address range between 10.{_FIRST}.0.0 and 10.{_LAST}.0.0")


def observe_routes() -> list[str]:
    """Destinations of the machine's IPv4 routes, without the default route."""
    output = subprocess.check_output(["ip", "-json", "-4", "route", "show"], text=True)
    found = (str(route.get("dst", "default")) for route in json.loads(output or "[]"))
    return [destination for destination in found if destination != "default"]


def connect(plan: Plan, init_pid: int, enter: list[str]) -> None:
    """Join the namespace of process `init_pid` to the machine; `enter` runs a command in it."""
    ip = ["ip"]
    peer = ["type", "veth", "peer", "name", "eth0", "netns", str(init_pid)]
    for command in (
        [*ip, "link", "add", plan.link, *peer],
        [*ip, "address", "add", f"{plan.host_ip}/24", "dev", plan.link],
        [*ip, "link", "set", plan.link, "up"],
        [*enter, *ip, "link", "set", "lo", "up"],
        [*enter, *ip, "address", "add", f"{plan.node_ip}/24", "dev", "eth0"],
        [*enter, *ip, "link", "set", "eth0", "up"],
        [*enter, *ip, "route", "add", "default", "via", plan.host_ip],
        [*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
        [*ip, "route", "add", plan.pod_cidr, "via", plan.node_ip],
        [*ip, "route", "add", plan.service_cidr, "via", plan.node_ip],
    ):
        _run(command)


def disconnect(plan: Plan) -> None:
    """Remove the machine's end of the link, and with it the routes, if it is still there."""
    if Path(f"/sys/class/net/{plan.link}").exists():
        _run(["ip", "link", "delete", plan.link])


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise HarnessError(f"{' '.join(command)}: {result.stderr.strip()}")
