"""Names, labels, owner and template hash of everything made for a deployment.

Knows the words of `stoker_api.names`; does not know what is inside pods or Services. Used by the
other builders.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment, LLMDeploymentSpec

Manifest = dict[str, Any]

HASHED = {"model", "engine", "resources", "pod"}
"""Parts of the spec that a pod is made from; a change of `scaling` or `replicas` keeps pods."""


def derive_template_hash(spec: LLMDeploymentSpec) -> str:
    """Eight hex digits that change when a user changes something that pods are made from.

    Only what differs from the defaults counts, so a new release with new fields, images or settings
    hashes an old object as before, and its upgrade restarts no model.
    """
    wanted = spec.model_dump(mode="json", by_alias=True, include=HASHED, exclude_defaults=True)
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_selector(deployment: str) -> dict[str, str]:
    """Labels that choose the pods of one deployment."""
    return {names.LABEL_NAME: names.RUNTIME_NAME, names.LABEL_DEPLOYMENT: deployment}


def format_selector(deployment: str) -> str:
    """The same as text, for `status.selector`."""
    return ",".join(f"{key}={value}" for key, value in sorted(build_selector(deployment).items()))


def build_labels(deployment: LLMDeployment) -> dict[str, str]:
    """Labels of every child."""
    managed = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
    return build_selector(deployment.metadata.name) | managed


def build_metadata(deployment: LLMDeployment, name: str) -> Manifest:
    """Metadata of a child. The garbage collector removes it with its owner, whoever else runs."""
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "LLMDeployment",
        "name": deployment.metadata.name,
        "uid": deployment.metadata.uid,
        "controller": True,
    }
    return {
        "name": name,
        "namespace": deployment.metadata.namespace,
        "labels": build_labels(deployment),
        "ownerReferences": [owner],
    }
