"""What moves a standby into a deployment and back: changes of its metadata, and the order to load.

Knows labels, owners and the body of the runtime's `POST /load` (`server/order.py` there); does not
know which standby is taken, nor when. Each change is one write, guarded by the version that was
looked at, so that of two who want the same pod one gets it.
"""

from __future__ import annotations

import re

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.metadata import Manifest, build_metadata, build_owner
from stoker_operator.build.pod import PodOrder, pick_model_flags
from stoker_operator.build.standby import locate

_DASH = re.compile(r"-([a-z])")
_NUMBER = re.compile(r"-?[0-9]+")
_MARKS = (
    names.ANNOTATION_ADDRESS,
    names.ANNOTATION_ASKED_AT,
    names.ANNOTATION_DECIDED_AT,
    names.ANNOTATION_RELEASED_AT,
    names.ANNOTATION_NUDGED,
)


def build_adoption(deployment: LLMDeployment, pod: Manifest, order: PodOrder) -> Manifest:
    """The change that makes a standby a replica."""
    overrides = deployment.spec.pod
    own = {names.LABEL_DEPLOYMENT: deployment.metadata.name, names.LABEL_TEMPLATE: order.template}
    labels = overrides.labels | pod["metadata"]["labels"] | own
    marks = dict.fromkeys(_MARKS, None) | overrides.annotations | order.marks
    return _change(pod, build_owner(deployment), labels, marks)


def build_return(pool: WarmPool, pod: Manifest) -> Manifest:
    """The change that makes a replica a standby again; nothing of the deployment stays on it."""
    kept = build_metadata(pool, "")["labels"] | pool.spec.pod.labels
    template = pod["metadata"]["labels"][names.LABEL_POOL_TEMPLATE]
    gone = dict.fromkeys(pod["metadata"]["labels"], None)
    labels = gone | kept | {names.LABEL_POOL_TEMPLATE: template}
    marks = dict.fromkeys((*_MARKS, *pod["metadata"].get("annotations", {})), None)
    return _change(pod, build_owner(pool), labels, marks | pool.spec.pod.annotations)


def build_shared_key(pod: Manifest) -> Manifest:
    """The change that keeps the pool's Secret for as long as the pod lives: what a container starts
    with is fixed, and the pool may go while its pod serves a deployment."""
    metadata = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    name = names.pool_child_name(metadata["labels"][names.LABEL_POOL])
    shared = {"namespace": metadata["namespace"], "name": name, "ownerReferences": [owner]}
    return {"kind": "Secret", "metadata": shared}


def build_load(deployment: LLMDeployment, token: str | None) -> Manifest:
    """The body of `POST /load`: what a fresh pod is told by flags and environment."""
    body: Manifest = {
        "model": locate(deployment.spec.model.parsed_source),
        "servedName": deployment.served_name,
        "deployment": deployment.metadata.name,
    }
    if token is not None:
        body["token"] = token
    flags: dict[str, str | int] = dict(pick_model_flags(deployment))
    for flag in deployment.spec.engine.extra_args:
        name, _, value = flag.partition("=")
        flags[name] = int(value) if _NUMBER.fullmatch(value) else value
    return body | {_spell(name): value for name, value in flags.items()}


def _spell(flag: str) -> str:
    """`--max-model-len` is `maxModelLen` in an order."""
    return _DASH.sub(lambda match: match[1].upper(), flag.removeprefix("--"))


def _change(pod: Manifest, owner: Manifest, labels: Manifest, marks: Manifest) -> Manifest:
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    version = {"resourceVersion": pod["metadata"]["resourceVersion"]}
    changed = {"labels": labels, "annotations": marks, "ownerReferences": [owner]}
    return {"kind": "Pod", "metadata": metadata | version | changed}
