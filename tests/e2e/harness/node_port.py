"""Reaching a Service from outside its cluster through a node port.

Called by the providers whose ClusterIPs this machine has no route to.
"""

from e2e.harness.kubectl import Kubectl
from e2e.harness.provider import Address
from e2e.harness.settings import HarnessError


def reach_by_node_port(kubectl: Kubectl, service: str, namespace: str, port: int) -> Address:
    """A node's address and a node port of the Service, or of a twin of it made for the purpose."""
    found = kubectl.get("service", service, "-n", namespace)
    if found["spec"]["type"] == "ClusterIP":
        found = kubectl.get("service", _make_twin(kubectl, service, namespace), "-n", namespace)
    for entry in found["spec"]["ports"]:
        if entry["port"] == port and "nodePort" in entry:
            return Address(_node_address(kubectl), entry["nodePort"])
    raise HarnessError(f"service {namespace}/{service} has no node port for {port}")


def _make_twin(kubectl: Kubectl, service: str, namespace: str) -> str:
    """A second Service with the same ports and selector, of type NodePort."""
    twin = f"{service}-from-outside"
    known = kubectl("get", "services", "-n", namespace, "-o", "name").split()
    if f"service/{twin}" not in known:
        kubectl("expose", "service", service, f"--name={twin}", "--type=NodePort", "-n", namespace)
    return twin


def _node_address(kubectl: Kubectl) -> str:
    addresses = kubectl.get("nodes")["items"][0]["status"]["addresses"]
    return str(next(entry["address"] for entry in addresses if entry["type"] == "InternalIP"))
