"""The NetworkPolicy of runtime pods: they hear gateway and operator, and reach the gateway.

Knows its manifest; does not know whether the cluster's network enforces it. A runtime holds no
secret but its own token and fetches nothing, so everything else is closed, DNS too: the gateway's
address reaches it as a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.metadata import (
    Manifest,
    build_metadata,
    pick_guard_name,
    select_pods,
)

_NAMESPACE = "kubernetes.io/metadata.name"
_LAST_INTERNAL_PORT = names.INTERNAL_PORT + 63
"""A gateway has at most 64 workers, each with a port of its own."""


@dataclass(frozen=True, slots=True)
class Release:
    """Where this release's own pods are."""

    namespace: str
    name: str = ""
    """Helm release; empty: all of Stoker's pods in the namespace."""

    def peer(self, *components: str) -> Manifest:
        """A NetworkPolicy peer: pods of these components."""
        labels = {"app.kubernetes.io/instance": self.name} if self.name else {}
        chosen = {"key": names.LABEL_COMPONENT, "operator": "In", "values": list(components)}
        return {
            "namespaceSelector": {"matchLabels": {_NAMESPACE: self.namespace}},
            "podSelector": {"matchLabels": labels, "matchExpressions": [chosen]},
        }


def build_network_policy(owner: LLMDeployment | WarmPool, release: Release) -> Manifest:
    """One policy for all pods of a deployment or a pool; an adopted pod has both."""
    scraper = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {names.LABEL_NAME: "prometheus"}},
    }
    served = [{"port": names.RUNTIME_PORT}, {"port": names.RUNTIME_ADMIN_PORT}]
    internal = {"port": names.INTERNAL_PORT, "endPort": _LAST_INTERNAL_PORT}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": build_metadata(owner, pick_guard_name(owner)),
        "spec": {
            "podSelector": {"matchLabels": select_pods(owner)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [release.peer("gateway", "operator")], "ports": served},
                {"from": [scraper], "ports": [{"port": names.RUNTIME_PORT}]},
            ],
            "egress": [{"to": [release.peer("gateway")], "ports": [internal]}],
        },
    }
