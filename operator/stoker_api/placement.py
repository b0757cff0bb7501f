"""What one replica is given and where it may run: resources, tolerations, pod overrides.

Knows the fields and their limits; both resources embed them. Building the pod from them is
`stoker_operator.build`'s work.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stoker_api.fields import (
    ApiModel,
    LabelMap,
    LabelValue,
    PodAnnotations,
    PodLabels,
    Quantity,
    ResourceName,
    Subdomain,
)


class Resources(ApiModel):
    """What one replica is given."""

    gpus: int = Field(default=1, ge=0, le=16)
    """GPUs of one replica. 0 runs the model on the CPU, which is fully supported, and right for
    small models and for trying things out."""
    gpu_resource_name: ResourceName = "nvidia.com/gpu"
    """What the cluster calls a GPU, for device plugins that use another name."""
    cpu: Quantity | None = None
    """CPU of one replica, such as `2` or `500m`, as request and limit; the engine starts as many
    threads. Default: neither, and as many threads as the node has CPUs."""
    memory: Quantity | None = None
    """Host memory of one replica, such as `16Gi`, as request and limit; a replica that uses more is
    killed. Default: neither."""


class Toleration(ApiModel):
    """Lets pods run on nodes with a matching taint; the same as in a pod's spec."""

    key: str | None = Field(default=None, max_length=317)
    """Taint key; absent with operator Exists matches every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Whether the value must be equal or the key merely exist. Default: Equal."""
    value: LabelValue | None = None
    """Taint value, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect to tolerate. Default: all."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=31_536_000)
    """How long a NoExecute taint is tolerated. Default: for ever."""


class PodOverrides(ApiModel):
    """Where pods run and what they carry. Changing it replaces the replicas, one by one."""

    node_selector: LabelMap = Field(default={})
    """Labels that a node must have."""
    tolerations: list[Toleration] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Taints that pods put up with, such as `nvidia.com/gpu`."""
    labels: PodLabels = Field(default={})
    """Further labels for pods. Names under `stoker.dev/` are taken."""
    annotations: PodAnnotations = Field(default={})
    """Further annotations for pods. Names under `stoker.dev/` are taken."""
    priority_class_name: Subdomain | None = None
    """PriorityClass of pods: which of them may displace others."""
    runtime_class_name: Subdomain | None = None
    """RuntimeClass of pods, such as `nvidia`."""
