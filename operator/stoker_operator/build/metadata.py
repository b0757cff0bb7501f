"""Names, labels, owners, template hashes and the status of deployments, pools and what is theirs.

Knows the words of `stoker_api.names`; does not know what is inside pods or Services. Used by the
other builders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment, LLMDeploymentSpec, WarmPool, WarmPoolSpec

Manifest = dict[str, Any]

HASHED = {"model", "engine", "resources", "pod"}
"""Parts of the spec that a pod is made from; a change of `scaling` or `replicas` keeps pods."""
POOL_HASHED = {"resources", "engine", "pod", "preload", "host_memory"}
"""The same of a pool; a change of `size` keeps standbys."""


def derive_template_hash(spec: LLMDeploymentSpec) -> str:
    """Eight hex digits that change when a user changes something that pods are made from.

    Only what differs from the defaults counts, so a new release with new fields, images or settings
    hashes an old object as before, and its upgrade restarts no model.
    """
    return _hash(spec.model_dump(mode="json", by_alias=True, include=HASHED, exclude_defaults=True))


def derive_pool_hash(spec: WarmPoolSpec, claims: Iterable[str]) -> str:
    """The same of a pool whose standbys mount these claims."""
    wanted = spec.model_dump(mode="json", by_alias=True, include=POOL_HASHED, exclude_defaults=True)
    return _hash(wanted | {"claims": sorted(claims)})


def _hash(wanted: Manifest) -> str:
    text = json.dumps(wanted, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_selector(deployment: str) -> dict[str, str]:
    """Labels that choose the pods of one deployment."""
    return {names.LABEL_NAME: names.RUNTIME_NAME, names.LABEL_DEPLOYMENT: deployment}


def build_pool_selector(pool: str) -> dict[str, str]:
    """Labels that choose the pods of one pool, those that serve a deployment by now included."""
    return {names.LABEL_NAME: names.RUNTIME_NAME, names.LABEL_POOL: pool}


def format_selector(deployment: str) -> str:
    """The same as text, for `status.selector`."""
    return ",".join(f"{key}={value}" for key, value in sorted(build_selector(deployment).items()))


def format_pool_selector(pool: str) -> str:
    """Text that chooses a pool's standbys, for `status.selector`."""
    chosen = sorted(f"{key}={value}" for key, value in build_pool_selector(pool).items())
    return ",".join([*chosen, f"!{names.LABEL_DEPLOYMENT}"])


def pick_guard_name(owner: LLMDeployment | WarmPool) -> str:
    """The Secret and the NetworkPolicy of an owner's pods."""
    name = owner.metadata.name
    return names.pool_child_name(name) if isinstance(owner, WarmPool) else names.guard_name(name)


def build_owner(owner: LLMDeployment | WarmPool) -> Manifest:
    """The reference for which the garbage collector removes a child, whoever else runs."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }


def build_metadata(owner: LLMDeployment | WarmPool, name: str) -> Manifest:
    """Metadata of a child."""
    return {
        "name": name,
        "namespace": owner.metadata.namespace,
        "labels": select_pods(owner) | {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        "ownerReferences": [build_owner(owner)],
    }


def select_pods(owner: LLMDeployment | WarmPool) -> dict[str, str]:
    """Labels that choose the pods of either."""
    name = owner.metadata.name
    return build_pool_selector(name) if isinstance(owner, WarmPool) else build_selector(name)


def build_status(kind: str, metadata: Manifest, status: BaseModel) -> Manifest:
    """What is applied to the status of an object of ours."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "metadata": {key: metadata[key] for key in ("name", "namespace")},
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
