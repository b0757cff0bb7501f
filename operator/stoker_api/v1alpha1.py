"""`LLMDeployment` and `WarmPool`, version `v1alpha1`: the one definition of Stoker's resources.

Knows fields, defaults and what is refused; `crd.py` makes the CRDs from it, operator and gateway
parse objects with it. The docstrings under the fields are what `kubectl explain` prints.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stoker_api import names
from stoker_api.duration import parse_duration
from stoker_api.fields import (
    AnnotationValue,
    ApiModel,
    DnsLabel,
    Image,
    LabelValue,
    Quantity,
    ResourceName,
    ServedName,
    Source,
    Subdomain,
    duration_between,
)
from stoker_api.source import ModelSource, parse_source
from stoker_api.status import LLMDeploymentStatus, WarmPoolStatus

MAX_NAME = 52
"""Longest name of a resource: its Services and pods append up to eleven characters to it."""
NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"

RESERVED_FLAGS = (
    "--model",
    "--served-name",
    "--port",
    "--admin-port",
    "--max-model-len",
    "--max-num-seqs",
)
"""Flags that fields of the spec, or the operator, set."""

_idle, _idle_rules = duration_between("1s", "168h")
_hold, _hold_rules = duration_between("1s", "1h")
IdleTimeout = Annotated[str, Field(max_length=16, json_schema_extra=_idle_rules), _idle]
ColdStartTimeout = Annotated[str, Field(max_length=16, json_schema_extra=_hold_rules), _hold]


class Quantization(StrEnum):
    """How weights are stored in memory."""

    AUTO = "Auto"
    NONE = "None"
    INT8 = "Int8"
    INT4 = "Int4"
    FP8 = "FP8"


class KvCacheDtype(StrEnum):
    """How the key-value cache is stored in memory."""

    AUTO = "Auto"
    INT8 = "Int8"
    FP8 = "FP8"


class ObjectMeta(ApiModel):
    """The parts of an object's metadata that Stoker reads."""

    name: str
    """Unique within the namespace."""
    namespace: str = "default"
    """Where the object lives."""
    uid: str = ""
    """Unique over time: a deleted and remade object has another."""
    generation: int = 0
    """Counts changes of the spec."""
    resource_version: str = ""
    """Changes with every write."""
    creation_timestamp: str = ""
    """When the object was made."""
    deletion_timestamp: str | None = None
    """When deletion was asked for."""
    labels: dict[str, str] = Field(default={})
    """The user's labels."""
    annotations: dict[str, str] = Field(default={})
    """The user's annotations."""


class SecretReference(ApiModel):
    """Names a Secret in the same namespace."""

    name: Subdomain
    """Name of the Secret."""


class WarmPoolReference(ApiModel):
    """Names a WarmPool in the same namespace."""

    name: DnsLabel
    """Name of the WarmPool."""


class ModelSpec(ApiModel):
    """Which model, and how clients call it."""

    source: Source
    """Where the checkpoint comes from: a Hugging Face repository with an optional branch, tag or
    commit (`hf://org/name@revision`), an object store (`s3://bucket/path`), a web server
    (`https://host/path`), or a folder on a PersistentVolumeClaim of the same namespace
    (`pvc://claim/path`), which is mounted read-only."""
    served_name: ServedName | None = None
    """What clients send as `model` in OpenAI requests. Default: the name of this object."""
    quantization: Quantization = Quantization.AUTO
    """How weights are stored in memory. Auto keeps what the checkpoint declares (GPTQ, AWQ, FP8, or
    nothing); None refuses a quantised checkpoint; Int8, Int4 and FP8 quantise while loading, which
    also halves or quarters the bytes that a cold start has to read into the GPU."""
    secret_ref: SecretReference | None = None
    """Secret with the credentials to fetch the model, in the same namespace. Only the job that
    fetches sees it, never a pod that serves. Not used for `pvc://`."""

    @property
    def parsed_source(self) -> ModelSource:
        """The source taken apart."""
        return parse_source(self.source)


class EngineSpec(ApiModel):
    """How the runtime runs the model. Everything has a default that fits most models."""

    max_model_len: int | None = Field(default=None, ge=16, le=10_000_000)
    """Longest prompt plus answer, in tokens. Default: what the checkpoint declares. Lower it when
    the model does not fit: the cache of one sequence grows with it."""
    max_num_seqs: int | None = Field(default=None, ge=1, le=4096)
    """Sequences that one replica runs at once; further ones wait at the gateway. Default: 32."""
    kv_cache_dtype: KvCacheDtype = KvCacheDtype.AUTO
    """How the key-value cache is stored. Auto uses the dtype of the model; Int8 and FP8 hold about
    twice the tokens in the same memory at a small loss of accuracy."""
    prefix_caching: bool = True
    """Keep the cache of finished prompts and reuse it for requests that begin alike, such as those
    with one system prompt. Answers do not change."""
    tensor_parallel: int | None = Field(default=None, ge=1, le=16)
    """GPUs that one replica splits the model over. Default: all of `resources.gpus`, the only value
    that makes sense; it may be given to be explicit."""
    extra_args: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Further flags for the runtime, one word each, such as `--seed=7`. Flags that fields of this
    spec set, such as `--max-model-len`, are refused."""
    image: Image | None = None
    """Container image of the runtime. Default: the one that this release of Stoker was tested with,
    for GPU or CPU as `resources.gpus` asks."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for flag in self.extra_args:
            if not flag.startswith("--") or flag.partition("=")[0] in RESERVED_FLAGS:
                raise ValueError(f"extraArgs must be flags that no field sets, was {flag}")
        return self


class Resources(ApiModel):
    """What one replica is given."""

    gpus: int = Field(default=1, ge=0, le=16)
    """GPUs of one replica. 0 runs the model on the CPU, which is fully supported, and right for
    small models and for trying things out."""
    gpu_resource_name: ResourceName = "nvidia.com/gpu"
    """What the cluster calls a GPU, for device plugins that use another name."""
    cpu: Quantity | None = None
    """CPU of one replica, such as `2` or `500m`. Default: nothing is requested."""
    memory: Quantity | None = None
    """Host memory of one replica, such as `16Gi`; a replica that uses more is killed. Default:
    nothing is requested."""


class Scaling(ApiModel):
    """How the number of replicas follows the demand."""

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
    """WarmPool to wake from first: a standby pod that only has to load the model. When it is
    empty a fresh pod is started."""

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
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated. Default: for ever."""


class PodOverrides(ApiModel):
    """Where pods run and what they carry. Changing it replaces the replicas, one by one."""

    node_selector: dict[str, LabelValue] = Field(default={}, max_length=32)
    """Labels that a node must have."""
    tolerations: list[Toleration] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Taints that pods put up with, such as `nvidia.com/gpu`."""
    labels: dict[str, LabelValue] = Field(default={}, max_length=32)
    """Further labels for pods. Names under `stoker.dev/` are taken."""
    annotations: dict[str, AnnotationValue] = Field(default={}, max_length=32)
    """Further annotations for pods. Names under `stoker.dev/` are taken."""
    priority_class_name: Subdomain | None = None
    """PriorityClass of pods: which of them may displace others."""
    runtime_class_name: Subdomain | None = None
    """RuntimeClass of pods, such as `nvidia`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in (*self.labels, *self.annotations):
            if key.startswith(f"{names.GROUP}/"):
                raise ValueError(f"names under {names.GROUP}/ are taken, was {key}")
        return self


class LLMDeploymentSpec(ApiModel):
    """What is wanted."""

    model: ModelSpec
    """Which model, and how clients call it."""
    engine: EngineSpec = Field(default_factory=EngineSpec)
    """How the runtime runs the model."""
    resources: Resources = Field(default_factory=Resources)
    """What one replica is given."""
    replicas: int | None = Field(default=None, ge=0, le=1000)
    """A fixed number of replicas; excludes `scaling`. 0 turns the deployment off: requests are
    refused, not held. This is what `kubectl scale` and other autoscalers set. When neither this nor
    `scaling` is given, the defaults of `scaling` hold."""
    scaling: Scaling | None = None
    """How the number of replicas follows the demand; excludes `replicas`. When neither is given the
    defaults hold: zero when idle for 5 minutes, at most 10."""
    pod: PodOverrides = Field(default_factory=PodOverrides)
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
            raise ValueError(f"replicas excludes scaling, was replicas {self.replicas} with both")
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

    min: int = Field(default=1, ge=0, le=1000)
    """Standby pods that always wait."""
    max: int | None = Field(default=None, ge=0, le=1000)
    """Standby pods that are never exceeded, when a busy hour asks for more. Default: `min`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"size.min must be ≤ size.max, was {self.min} > {self.max}")
        return self


class WarmPoolEngine(ApiModel):
    """The runtime of the standby pods."""

    image: Image | None = None
    """Container image of the runtime. A deployment can only adopt a standby with its own image.
    Default: the one that this release of Stoker was tested with."""


class WarmPoolSpec(ApiModel):
    """What is wanted."""

    size: WarmPoolSize = Field(default_factory=WarmPoolSize)
    """How many standby pods are kept."""
    resources: Resources = Field(default_factory=Resources)
    """What one standby is given. A deployment can only adopt a standby with its own resources."""
    engine: WarmPoolEngine = Field(default_factory=WarmPoolEngine)
    """The runtime of the standby pods."""
    preload: list[Source] = Field(
        default=[], max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """Model sources whose weights each standby keeps in host memory, most wanted first: waking
    one of them takes a copy to the GPU, well under a second, instead of a read."""
    host_memory: Quantity | None = None
    """Host memory that `preload` may fill, such as `64Gi`; sources that no longer fit are left out.
    Default: half of `resources.memory`."""


class WarmPool(ApiModel):
    """Standby pods: scheduled, process up, kernels loaded, no model yet."""

    api_version: str = names.API_VERSION
    """`stoker.dev/v1alpha1`."""
    kind: Literal["WarmPool"] = "WarmPool"
    """`WarmPool`."""
    metadata: ObjectMeta
    """Standard metadata."""
    spec: WarmPoolSpec = Field(default_factory=WarmPoolSpec)
    """What is wanted."""
    status: WarmPoolStatus = Field(default_factory=WarmPoolStatus)
    """What was observed; written by the operator alone."""
