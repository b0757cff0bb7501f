"""The runtime pod: what runs, with which rights, and when the kubelet may interfere.

Knows the manifest; does not know how many there are or where they run. The flags are those of
`stoker_runtime.config` (`tests/test_contract.py` feeds them to it).

No probe ends a pod that is loading: liveness asks the API process, which answers from its start on,
and only fails when the engine's heart has stopped. Readiness is for people and Services; gateways
and the operator hear from the pod itself. Deleting is draining: the grace period is the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_api import names
from stoker_api.source import ModelSource
from stoker_api.v1alpha1 import (
    LLMDeployment,
    LLMDeploymentSpec,
    PodOverrides,
    Quantization,
    Resources,
)
from stoker_operator.build.metadata import Manifest, build_metadata

USER = 65532
"""The unprivileged user and group that pods run as."""
BATCHED_TOKENS = 512
"""Default of the runtime's `--max-batched-tokens`, which may not be below `--max-num-seqs`."""
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


@dataclass(frozen=True, slots=True)
class PodOrder:
    """One pod to make."""

    name: str
    template: str
    asked_at: float
    """Unix seconds at which the request arrived that it is made for."""
    decided_at: float
    """Unix seconds."""


def build_pod(deployment: LLMDeployment, order: PodOrder, settings: PodSettings) -> Manifest:
    """The manifest of one replica."""
    overrides = deployment.spec.pod
    metadata = build_metadata(deployment, order.name)
    metadata["labels"] = overrides.labels | metadata["labels"]
    metadata["labels"][names.LABEL_TEMPLATE] = order.template
    decided = {
        names.ANNOTATION_ASKED_AT: f"{order.asked_at:.6f}",
        names.ANNOTATION_DECIDED_AT: f"{order.decided_at:.6f}",
    }
    metadata["annotations"] = overrides.annotations | decided
    spec: Manifest = {
        "containers": [_container(deployment, settings)],
        "volumes": [_model_volume(deployment), {"name": "tmp", "emptyDir": {}}],
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
    spec |= _placement(overrides)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def build_args(deployment: LLMDeployment) -> list[str]:
    """The runtime's flags."""
    engine, quantization = deployment.spec.engine, deployment.spec.model.quantization
    flags: dict[str, object] = {
        "--model": _model_path(deployment.spec.model.parsed_source),
        "--served-name": deployment.served_name,
        "--port": names.RUNTIME_PORT,
        "--admin-port": names.RUNTIME_ADMIN_PORT,
        "--device": "cuda" if deployment.spec.resources.gpus else "cpu",
    }
    if quantization != Quantization.AUTO:
        flags["--quantization"] = quantization.lower()
    if (threads := _threads(deployment.spec.resources)) is not None:
        flags["--threads"] = threads
    if engine.max_model_len is not None:
        flags["--max-model-len"] = engine.max_model_len
    if engine.max_num_seqs is not None:
        flags["--max-num-seqs"] = engine.max_num_seqs
        if engine.max_num_seqs > BATCHED_TOKENS:
            flags["--max-batched-tokens"] = engine.max_num_seqs
    if not engine.prefix_caching:
        flags["--prefix-caching"] = 0
    return ["serve", *(f"{flag}={value}" for flag, value in flags.items()), *engine.extra_args]


def _threads(resources: Resources) -> int | None:
    """Whole CPUs that were asked for, at least one; None leaves it to the runtime.

    The limit that a cgroup would show is missing on purpose (see `_resources`)."""
    if resources.cpu is None:
        return None
    text = str(resources.cpu)
    cores = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return max(1, round(cores))


def _model_path(source: ModelSource) -> str:
    return f"{names.MODELS_MOUNT}/{source.path}" if source.path else names.MODELS_MOUNT


def _model_volume(deployment: LLMDeployment) -> Manifest:
    source = deployment.spec.model.parsed_source
    assert source.scheme == "pvc", f"only pvc:// can be mounted, was {source}"
    return {"name": "model", "persistentVolumeClaim": {"claimName": source.location}}


def _container(deployment: LLMDeployment, settings: PodSettings) -> Manifest:
    return {
        "name": names.RUNTIME_CONTAINER,
        "image": _image(deployment.spec, settings),
        "imagePullPolicy": settings.pull_policy,
        "args": build_args(deployment),
        "env": _environment(deployment, settings),
        "ports": [
            {"name": "http", "containerPort": names.RUNTIME_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.RUNTIME_ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(deployment.spec.resources),
        "livenessProbe": _probe("/health", period_s=10, failures=12),
        "readinessProbe": _probe("/ready", period_s=5, failures=1),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "model", "mountPath": names.MODELS_MOUNT, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _image(spec: LLMDeploymentSpec, settings: PodSettings) -> str:
    default = settings.image_gpu if spec.resources.gpus else settings.image_cpu
    return spec.engine.image or default


def _environment(deployment: LLMDeployment, settings: PodSettings) -> list[Manifest]:
    name = deployment.metadata.name
    key = {"name": names.token_secret_name(name), "key": names.TOKEN_SECRET_KEY}
    token = {"name": "STOKER_TOKEN", "valueFrom": {"secretKeyRef": key}}
    return [
        {"name": "STOKER_DEPLOYMENT", "value": name},
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
