"""What a pool's pod has, read from its manifest and from what it said of itself.

Knows where resources, claims and labels are in a manifest; does not know who may have the pod.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker_api import names
from stoker_api.quantity import parse_quantity
from stoker_operator.cluster.kinds import Manifest, parse_instant
from stoker_operator.cluster.pods import observe_pod
from stoker_operator.decide.observed import Failure, ObservedPod
from stoker_operator.decide.pool import Seat, Standby


@dataclass(frozen=True, slots=True)
class SaidState:
    """What a runtime's `/state` said."""

    phase: str = ""
    path: str = ""
    """How the model came in: `fresh`, `warm` or `resident`."""
    reason: str = ""
    message: str = ""
    residents: frozenset[str] = frozenset()
    """Folders whose weights are in memory."""
    num_preloaded: int = 0
    """Folders of `--preload` that it is done with, in memory or not."""


def read_state(body: Manifest) -> SaidState:
    """The answer of `/state`, `/load` and `/unload`."""
    residents = body.get("residents", {})
    return SaidState(
        phase=body.get("phase", ""),
        path=body.get("path", ""),
        residents=frozenset(name for name, one in residents.items() if one.get("bytes")),
        num_preloaded=len(residents),
    )


def is_standby(pod: Manifest) -> bool:
    """Whether a pool's pod serves nobody and is not on its way out."""
    metadata = pod["metadata"]
    taken = metadata.get("labels", {}).get(names.LABEL_DEPLOYMENT)
    return bool(pool_of(pod)) and not taken and "deletionTimestamp" not in metadata


def pool_of(pod: Manifest) -> str:
    """`namespace/name` of the pool that a pod is of; empty when it is of none."""
    metadata = pod["metadata"]
    name = metadata.get("labels", {}).get(names.LABEL_POOL, "")
    return f"{metadata['namespace']}/{name}" if name else ""


def count_restarts(pod: Manifest) -> int:
    """How often its container has begun anew: what an earlier process said means nothing."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return sum(status.get("restartCount", 0) for status in statuses)


def admin_address(pod: Manifest) -> str:
    """`host:port` of its admin port; empty before it has an address."""
    ip = pod.get("status", {}).get("podIP", "")
    return f"{f'[{ip}]' if ':' in ip else ip}:{names.RUNTIME_ADMIN_PORT}" if ip else ""


def count_preload(pod: Manifest) -> int:
    """Folders that it was told to keep in memory."""
    args = pod["spec"]["containers"][0].get("args", ())
    given = (arg.partition("=")[2] for arg in args if arg.startswith("--preload="))
    return sum(len(folders.split(",")) for folders in given)


def observe_standby(pod: Manifest, said: SaidState | None, asked: bool = False) -> Standby:
    """The facts that adoption needs."""
    metadata, spec = pod["metadata"], pod["spec"]
    volumes = (volume.get("persistentVolumeClaim", {}) for volume in spec.get("volumes", ()))
    return Standby(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        seat=_seat(metadata["namespace"], spec),
        claims=frozenset(claim["claimName"] for claim in volumes if claim),
        created_at=parse_instant(metadata.get("creationTimestamp")),
        settled=said is not None and said.phase == "Standby",
        asked=asked and said is None,
        residents=said.residents if said is not None else frozenset(),
    )


def observe_waiting(pod: Manifest, said: SaidState | None) -> ObservedPod:
    """The same pod as a rollout sees it: ready means that it can be adopted."""
    seen = observe_pod(pod, None, 0)
    template = pod["metadata"]["labels"].get(names.LABEL_POOL_TEMPLATE, "")
    if said is not None and said.phase == "Standby":
        return replace(seen, template=template, ready=True, failure=None)
    failure = seen.failure
    if said is not None and said.phase == "Failed":
        failure = Failure(said.reason or "EngineCrashed", said.message or "See the pod's log.")
    return replace(seen, template=template, ready=False, failure=failure)


def _seat(namespace: str, spec: Manifest) -> Seat:
    container = spec["containers"][0]
    requests = dict(container.get("resources", {}).get("requests", {}))
    cpu, memory = requests.pop("cpu", None), requests.pop("memory", None)
    gpu_resource, gpus = next(iter(requests.items()), ("", 0))
    return Seat(
        namespace=namespace,
        image=container["image"],
        gpus=int(gpus),
        gpu_resource=gpu_resource,
        cpu=None if cpu is None else parse_quantity(cpu),
        memory_bytes=None if memory is None else parse_quantity(memory),
        node_selector=spec.get("nodeSelector", {}),
        priority_class=spec.get("priorityClassName", ""),
        runtime_class=spec.get("runtimeClassName", ""),
    )
