"""The runtime pod around its arguments: rights, probes, ports, environment, resources, volumes.

Knows what the pods of a deployment and of a pool have in common; does not know what they are told
to do (`pod` and `standby` do).

No probe ends a pod that is loading: liveness asks the API process, which answers from its start on,
and only fails when the engine's heart has stopped. Readiness is for people and Services; gateways
and the operator hear from the pod itself. Deleting is draining: the grace period is the deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker_api import names
from stoker_api.placement import PodOverrides, Resources
from stoker_api.quantity import parse_quantity
from stoker_operator.build.metadata import Manifest

USER = 65532
"""The unprivileged user and group that pods run as."""
_BEFORE_KILL_S = 5


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What the operator's settings, not the user's spec, put into pods."""

    image_cpu: str
    image_gpu: str
    pull_policy: str
    drain_deadline_s: int
    announce_url: str
    """Numeric: a pod that wakes should not need DNS."""
    with_token: bool = True

    def pick_image(self, image: str | None, resources: Resources) -> str:
        """The image that a spec names, or the release's own."""
        return image or (self.image_gpu if resources.gpus else self.image_cpu)


@dataclass(frozen=True, slots=True)
class Frame:
    """What differs from pod to pod."""

    metadata: Manifest
    image: str
    args: list[str]
    secret: str
    """Name of the Secret with its token."""
    resources: Resources
    overrides: PodOverrides
    claims: Mapping[str, str] = field(default_factory=dict)
    """Folder → the claim that is mounted there, read-only."""
    environment: tuple[Manifest, ...] = ()
    """What it is told beside who and where it is."""


def build_runtime(frame: Frame, settings: PodSettings) -> Manifest:
    """The manifest of a runtime pod."""
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for name, (_, claim) in _volumes(frame).items()
    ]
    volumes += [
        {"name": name, "emptyDir": kind} for name, (_, kind) in _scratch(frame.resources).items()
    ]
    spec: Manifest = {
        "containers": [_container(frame, settings)],
        "volumes": volumes,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": settings.drain_deadline_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec |= _placement(frame.overrides)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": frame.metadata, "spec": spec}


def pick_process_flags(resources: Resources) -> dict[str, str | int]:
    """The runtime's flags that follow from what a pod has: one model over all of its GPUs."""
    threads = count_threads(resources)
    return {
        "--device": "cuda" if resources.gpus else "cpu",
        **({} if threads is None else {"--threads": threads}),
        **({"--tensor-parallel": resources.gpus} if resources.gpus > 1 else {}),
    }


def count_threads(resources: Resources) -> int | None:
    """Whole CPUs that were asked for, at least one; None leaves it to the runtime.

    The limit that a cgroup would show is missing on purpose (see `_resources`)."""
    return None if resources.cpu is None else max(1, round(parse_quantity(resources.cpu)))


def _volumes(frame: Frame) -> dict[str, tuple[str, str]]:
    """Volume → its folder and claim; the names of claims are too long for those of volumes."""
    mounts = sorted(frame.claims.items())
    if len(mounts) == 1:
        return {"model": mounts[0]}
    return {f"model-{index}": mount for index, mount in enumerate(mounts)}


def _scratch(resources: Resources) -> dict[str, tuple[str, Manifest]]:
    """Volumes that begin empty, each with its folder.

    Several GPUs meet in shared memory, of which containers have 64 MiB by themselves: too little
    for NCCL. What is in it counts as the container's memory.
    """
    tmp: dict[str, tuple[str, Manifest]] = {"tmp": ("/tmp", {})}
    return tmp | ({"shm": ("/dev/shm", {"medium": "Memory"})} if resources.gpus > 1 else {})


def _container(frame: Frame, settings: PodSettings) -> Manifest:
    mounts = [
        {"name": name, "mountPath": folder, "readOnly": True}
        for name, (folder, _) in _volumes(frame).items()
    ]
    mounts += [
        {"name": name, "mountPath": folder}
        for name, (folder, _) in _scratch(frame.resources).items()
    ]
    return {
        "name": names.RUNTIME_CONTAINER,
        "image": frame.image,
        "imagePullPolicy": settings.pull_policy,
        "args": frame.args,
        "env": _environment(frame, settings),
        "ports": [
            {"name": "http", "containerPort": names.RUNTIME_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.RUNTIME_ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(frame.resources),
        "livenessProbe": _probe("/health", period_s=10, failures=12),
        "readinessProbe": _probe("/ready", period_s=5, failures=1),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _environment(frame: Frame, settings: PodSettings) -> list[Manifest]:
    key = {"name": frame.secret, "key": names.TOKEN_SECRET_KEY}
    token = {"name": "STOKER_TOKEN", "valueFrom": {"secretKeyRef": key}}
    return [
        *frame.environment,
        {"name": "STOKER_ANNOUNCE_URL", "value": settings.announce_url},
        {"name": "STOKER_DRAIN_DEADLINE_S", "value": str(_last_words_s(settings))},
        _from_field("STOKER_POD_NAME", "metadata.name"),
        _from_field("STOKER_NAMESPACE", "metadata.namespace"),
        _from_field("STOKER_POD_IP", "status.podIP"),
        {"name": "HOME", "value": "/tmp"},
        *([token] if settings.with_token else []),
    ]


def _last_words_s(settings: PodSettings) -> int:
    """When the runtime ends its streams with an error, before the kubelet's SIGKILL cuts them."""
    return max(1, settings.drain_deadline_s - _BEFORE_KILL_S)


def _from_field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _resources(resources: Resources) -> Manifest:
    """Memory and GPUs are limited to what was asked for; CPU is not, for a wake should not be
    throttled: the runtime takes its number of threads from the request instead."""
    memory = {"memory": str(resources.memory)} if resources.memory is not None else {}
    gpus = {resources.gpu_resource_name: str(resources.gpus)} if resources.gpus else {}
    cpu = {"cpu": str(resources.cpu)} if resources.cpu is not None else {}
    asked: Manifest = {"requests": memory | gpus | cpu, "limits": memory | gpus}
    return {kind: amounts for kind, amounts in asked.items() if amounts}


def _probe(path: str, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _placement(overrides: PodOverrides) -> Manifest:
    tolerations = [t.model_dump(by_alias=True, exclude_none=True) for t in overrides.tolerations]
    chosen: Manifest = {
        "nodeSelector": dict(overrides.node_selector),
        "tolerations": tolerations,
        "priorityClassName": overrides.priority_class_name,
        "runtimeClassName": overrides.runtime_class_name,
    }
    return {name: value for name, value in chosen.items() if value}
