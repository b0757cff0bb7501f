"""The PodDisruptionBudget of a deployment that promises more than one replica.

Knows its manifest; does not know who evicts. A deployment that may have one replica or none gets no
budget: it would only stop node drains, and an eviction costs its clients a wait, not an answer (the
pod finishes what it runs, a new one is made at once, requests are held meanwhile).
"""

from __future__ import annotations

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.metadata import Manifest, build_metadata, build_selector


def build_disruption_budget(deployment: LLMDeployment) -> Manifest | None:
    """All promised replicas but one stay; None where fewer than two are promised.

    A number of its own, not `maxUnavailable`: that asks the object's `scale`, in which a deployment
    that is scaled by the operator has no `spec.replicas`. What does not answer anyway may go.
    """
    spec = deployment.spec
    promised = spec.replicas if spec.autoscaling is None else spec.autoscaling.min_replicas
    if promised is None or promised < 2:
        return None
    name = deployment.metadata.name
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(deployment, names.guard_name(name)),
        "spec": {
            "minAvailable": promised - 1,
            "selector": {"matchLabels": build_selector(name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
