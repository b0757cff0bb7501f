"""`LLMDeployment` and `WarmPool`, version `v1alpha1`: the one definition of Stoker's resources.

Knows fields, defaults and what is refused; `crd.py` makes the CRDs from it, operator and gateway
parse objects with it. The docstrings under the fields are what `kubectl explain` prints.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from stoker_api import names
from stoker_api.duration import parse_duration
from stoker_api.engine import EngineSpec as EngineSpec
from stoker_api.engine import KvCacheDtype as KvCacheDtype
from stoker_api.engine import ModelSpec as ModelSpec
from stoker_api.engine import Quantization as Quantization
from stoker_api.fields import ApiModel, ColdStartTimeout, IdleTimeout, Image, Quantity, Source
from stoker_api.metadata import ObjectMeta as ObjectMeta
from stoker_api.metadata import SecretReference as SecretReference
from stoker_api.metadata import WarmPoolReference as WarmPoolReference
from stoker_api.placement import PodOverrides as PodOverrides
from stoker_api.placement import Resources as Resources
from stoker_api.placement import Toleration as Toleration
from stoker_api.rules import rule, rules
from stoker_api.status import LLMDeploymentStatus as LLMDeploymentStatus
from stoker_api.status import WarmPoolStatus as WarmPoolStatus

MAX_NAME = 52
"""Longest name of a resource: its Services and pods append up to eleven characters to it."""
NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Scaling(ApiModel):
    """How the number of replicas follows the demand."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.minReplicas <= self.maxReplicas",
                "must be ≤ maxReplicas, was %s > %s",
                "self.minReplicas, self.maxReplicas",
                field=".minReplicas",
            )
        )
    )

    min_replicas: int = Field(default=0, ge=0, le=1000)
    """Replicas that always run. 0 scales to zero when idle; the next request wakes the model and is
    held meanwhile. 1 or more never has a cold start for the first request."""
    max_replicas: int = Field(default=10, ge=1, le=1000)
    """Replicas that are never exceeded, whatever the demand. What it protects is the bill."""
    target_queue_depth: int = Field(default=5, ge=1, le=10_000)
    """Waiting requests that one replica may have before another is worth starting. Lower answers
    bursts sooner and costs more."""
    idle_timeout: IdleTimeout = "5m"
    """How long nobody may ask before replicas beyond `minReplicas` are stopped, such as `90s` or
    `1h30m`. Between 1s and 168h. Longer saves cold starts, shorter saves GPU time."""
    cold_start_timeout: ColdStartTimeout = "2m"
    """The longest that a request is held for a wake; then it gets 503 with a `Retry-After`. Between
    1s and 1h. Set it above the longest cold start and below the timeout of your clients."""
    warm_pool: WarmPoolReference | None = None
    """WarmPool of the same namespace to wake from first: a standby pod that only has to load the
    model. When none fits or waits, a fresh pod is started."""

    @property
    def idle_timeout_s(self) -> float:
        """`idleTimeout` in seconds."""
        return parse_duration(self.idle_timeout)

    @property
    def cold_start_timeout_s(self) -> float:
        """`coldStartTimeout` in seconds."""
        return parse_duration(self.cold_start_timeout)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas must be ≤ maxReplicas, was {self.min_replicas} > {self.max_replicas}"
            )
        return self


class LLMDeploymentSpec(ApiModel):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.replicas) && has(self.scaling))",
                "excludes scaling: give one of them, was %s beside scaling",
                "self.replicas",
                field=".replicas",
            ),
            rule(
                "!has(self.engine.tensorParallel) || self.engine.tensorParallel == "
                "(self.resources.gpus == 0 ? 1 : self.resources.gpus)",
                "must equal resources.gpus (1 on the CPU), was %s with %s GPUs",
                "self.engine.tensorParallel, self.resources.gpus",
                field=".engine.tensorParallel",
            ),
        )
    )

    model: ModelSpec
    """Which model, and how clients call it."""
    engine: EngineSpec = EngineSpec()
    """How the runtime runs the model."""
    resources: Resources = Resources()
    """What one replica is given."""
    replicas: int | None = Field(default=None, ge=0, le=1000)
    """A fixed number of replicas; excludes `scaling`. 0 turns the deployment off: requests are
    refused, not held. This is what `kubectl scale` and other autoscalers set. When neither this nor
    `scaling` is given, the defaults of `scaling` hold."""
    scaling: Scaling | None = None
    """How the number of replicas follows the demand; excludes `replicas`. When neither is given the
    defaults hold: zero when idle for 5 minutes, at most 10."""
    pod: PodOverrides = PodOverrides()
    """Where pods run and what they carry."""

    @property
    def autoscaling(self) -> Scaling | None:
        """The policy in force: none when the size is fixed, the defaults when nothing was said."""
        return None if self.replicas is not None else self.scaling or Scaling()

    @property
    def tensor_parallel(self) -> int:
        """GPUs that one replica splits the model over; 1 on the CPU."""
        return self.engine.tensor_parallel or max(1, self.resources.gpus)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.replicas is not None and self.scaling is not None:
            raise ValueError(
                f"replicas excludes scaling: give one of them, was {self.replicas} beside scaling"
            )
        if self.tensor_parallel != max(1, self.resources.gpus):
            raise ValueError(
                f"engine.tensorParallel must equal resources.gpus (1 on the CPU), was "
                f"{self.tensor_parallel} with {self.resources.gpus} GPUs"
            )
        return self


class LLMDeployment(ApiModel):
    """A language model that is served on demand: it costs nothing while nobody asks."""

    api_version: str = names.API_VERSION
    """`stoker.dev/v1alpha1`."""
    kind: Literal["LLMDeployment"] = "LLMDeployment"
    """`LLMDeployment`."""
    metadata: ObjectMeta
    """Standard metadata."""
    spec: LLMDeploymentSpec
    """What is wanted."""
    status: LLMDeploymentStatus = Field(default_factory=LLMDeploymentStatus)
    """What was observed; written by the operator alone."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def served_name(self) -> str:
        """What clients send as `model`."""
        return self.spec.model.served_name or self.metadata.name


class WarmPoolSize(ApiModel):
    """How many standby pods are kept."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.max) || self.min <= self.max",
                "must be ≤ max, was %s > %s",
                "self.min, self.max",
                field=".min",
            )
        )
    )

    min: int = Field(default=1, ge=0, le=1000)
    """Standby pods that always wait."""
    max: int | None = Field(default=None, ge=0, le=1000)
    """Standby pods that are never exceeded, when a busy hour asks for more. Default: `min`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min must be ≤ max, was {self.min} > {self.max}")
        return self


class WarmPoolEngine(ApiModel):
    """The runtime of the standby pods."""

    image: Image | None = None
    """Container image of the runtime. A deployment can only adopt a standby with its own image.
    Default: the one that this release of Stoker was tested with."""


class WarmPoolSpec(ApiModel):
    """What is wanted."""

    size: WarmPoolSize = WarmPoolSize()
    """How many standby pods are kept."""
    resources: Resources = Resources()
    """What one standby is given. A deployment adopts a standby with as many GPUs of the same
    resource name, and at least its own CPU and memory."""
    engine: WarmPoolEngine = WarmPoolEngine()
    """The runtime of the standby pods."""
    pod: PodOverrides = PodOverrides()
    """Where standby pods run and what they carry. A deployment adopts a standby that has its node
    selector, priority class and runtime class. Changing it replaces the standbys, one by one."""
    preload: list[Source] = Field(
        default=[], max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """Model sources whose weights each standby keeps in host memory, most wanted first: waking
    one of them needs no read. This release serves `pvc://`."""
    host_memory: Quantity | None = None
    """Host memory that `preload` may fill, such as `64Gi`; sources that no longer fit are left out.
    Default: half of what is free when a standby starts."""


class WarmPool(ApiModel):
    """Standby pods: scheduled, process up, libraries loaded, no model yet. Deployments of the
    namespace that name the pool wake from them."""

    api_version: str = names.API_VERSION
    """`stoker.dev/v1alpha1`."""
    kind: Literal["WarmPool"] = "WarmPool"
    """`WarmPool`."""
    metadata: ObjectMeta
    """Standard metadata."""
    spec: WarmPoolSpec = WarmPoolSpec()
    """What is wanted."""
    status: WarmPoolStatus = Field(default_factory=WarmPoolStatus)
    """What was observed; written by the operator alone."""
