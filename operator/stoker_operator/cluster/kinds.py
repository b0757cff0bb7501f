"""Where each kind of object lives in the API, and the few fields that all manifests share.

Knows URL paths and metadata; does not know what the kinds are for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stoker_api import names

Manifest = dict[str, Any]

_GROUP = f"apis/{names.GROUP}/{names.VERSION}"
_PATHS = {
    "LLMDeployment": (_GROUP, "llmdeployments"),
    "WarmPool": (_GROUP, "warmpools"),
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "Secret": ("api/v1", "secrets"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "Event": ("api/v1", "events"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
}


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """The URL path of an object, of the kind in a namespace, or of the kind everywhere."""
    prefix, plural = _PATHS[kind]
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/{prefix}{scope}/{plural}" + (f"/{name}" if name else "")


def key_of(manifest: Manifest) -> str:
    """`namespace/name`."""
    metadata = manifest["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"


def version_of(manifest: Manifest) -> int:
    """The resource version as the number that it is; 0 when there is none."""
    text = manifest["metadata"].get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0


def parse_instant(text: str | None) -> float:
    """Unix seconds of a Kubernetes instant; 0 when there is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
