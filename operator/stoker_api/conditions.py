"""Condition types and every reason that a Stoker object can show, with what each means.

Knows the vocabulary and how a list of conditions is merged; does not know when a condition holds
(`stoker_operator.decide` does) nor what time it is (the instant is passed in).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ConditionType(StrEnum):
    """All are positive: `True` is good, except that `Progressing` is merely `False` when done."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> ConditionType:
        """A member is its name as text, and carries its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    READY = "Ready", "A request sent now would be answered, or held until a replica answers it."
    MODEL_AVAILABLE = "ModelAvailable", "The checkpoint can be reached and read."
    FITS = "Fits", "Weights and at least one sequence of `maxModelLen` fit into memory."
    SCHEDULED = "Scheduled", "Every wanted pod has a node."
    SCALING = "Scaling", "The autoscaler has what it needs to decide; its last reason."
    PROGRESSING = "Progressing", "Replicas are being started, replaced or drained."


class Reason(StrEnum):
    """Why a condition has its status: CamelCase, stable, safe to alert on."""

    condition: ConditionType
    meaning: str

    def __new__(cls, value: str, condition: ConditionType, meaning: str) -> Reason:
        """A member is its name as text; it carries the condition it belongs to and its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.condition = condition
        member.meaning = meaning
        return member

    # Ready
    SERVING = "Serving", ConditionType.READY, "At least one replica answers."
    SCALED_TO_ZERO = (
        "ScaledToZero",
        ConditionType.READY,
        "No replica runs, as wanted; the next request wakes one and is held meanwhile.",
    )
    WAKING = "Waking", ConditionType.READY, "The first replica is starting; requests are held."
    STOPPED = "Stopped", ConditionType.READY, "`replicas: 0` turns the deployment off."
    COLD_START_TIMEOUT = (
        "ColdStartTimeout",
        ConditionType.READY,
        "No replica became ready within `coldStartTimeout`; held requests were answered with 503.",
    )
    INVALID_SPEC = (
        "InvalidSpec",
        ConditionType.READY,
        "The spec cannot be read by this operator; the message names the field.",
    )
    FIELD_UNSUPPORTED = (
        "FieldUnsupported",
        ConditionType.READY,
        "A field asks for something this release cannot do; the message names it.",
    )
    STANDBY_WAITS = (
        "StandbyWaits",
        ConditionType.READY,
        "Of a WarmPool: a standby can be adopted, or none is wanted.",
    )
    POOL_EMPTY = (
        "PoolEmpty",
        ConditionType.READY,
        "Of a WarmPool: no standby waits at this moment; deployments start fresh pods meanwhile.",
    )
    GATEWAY_UNAVAILABLE = (
        "GatewayUnavailable",
        ConditionType.READY,
        "No gateway is connected to the operator, so demand cannot be seen.",
    )

    # ModelAvailable
    SOURCE_FOUND = (
        "SourceFound",
        ConditionType.MODEL_AVAILABLE,
        "The place that the source names exists; nothing has been loaded from it yet.",
    )
    MODEL_LOADED = (
        "ModelLoaded",
        ConditionType.MODEL_AVAILABLE,
        "A replica has loaded the checkpoint and made a token with it.",
    )
    SOURCE_UNSUPPORTED = (
        "SourceUnsupported",
        ConditionType.MODEL_AVAILABLE,
        "This release cannot fetch from the source's scheme; use one that the message names.",
    )
    CLAIM_NOT_FOUND = (
        "ClaimNotFound",
        ConditionType.MODEL_AVAILABLE,
        "The PersistentVolumeClaim of a `pvc://` source is not in the namespace.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        ConditionType.MODEL_AVAILABLE,
        "The Secret of `model.secretRef` is not in the namespace.",
    )
    CHECKPOINT_NOT_FOUND = (
        "CheckpointNotFound",
        ConditionType.MODEL_AVAILABLE,
        "The folder or a file of the checkpoint is missing; the message names it.",
    )
    CHECKPOINT_BROKEN = (
        "CheckpointBroken",
        ConditionType.MODEL_AVAILABLE,
        "A checkpoint file is truncated, malformed, or has tensors of the wrong shape.",
    )
    ARCHITECTURE_UNSUPPORTED = (
        "ArchitectureUnsupported",
        ConditionType.MODEL_AVAILABLE,
        "The runtime does not know the architecture that the checkpoint's config.json declares.",
    )

    # Fits
    ENOUGH_MEMORY = "EnoughMemory", ConditionType.FITS, "The model was loaded and there is room."
    NOT_MEASURED = "NotMeasured", ConditionType.FITS, "No replica has tried to load the model yet."
    LIKELY_TOO_LARGE = (
        "LikelyTooLarge",
        ConditionType.FITS,
        "By its name the weights exceed `resources.memory`; a replica tries all the same.",
    )
    OUT_OF_MEMORY = (
        "OutOfMemory",
        ConditionType.FITS,
        "Weights and cache do not fit; ask for more memory, fewer tokens or fewer sequences.",
    )

    DEPLOYMENTS_FIT = (
        "DeploymentsFit",
        ConditionType.FITS,
        "Of a WarmPool: every deployment that names it can adopt its standbys.",
    )
    DEPLOYMENTS_UNFIT = (
        "DeploymentsUnfit",
        ConditionType.FITS,
        "Of a WarmPool: a deployment that names it asks for what its standbys do not have.",
    )

    # Scheduled
    PODS_SCHEDULED = "PodsScheduled", ConditionType.SCHEDULED, "Every wanted pod has a node."
    NO_PODS_WANTED = "NoPodsWanted", ConditionType.SCHEDULED, "There is nothing to place."
    PODS_PENDING = "PodsPending", ConditionType.SCHEDULED, "A pod waits for the scheduler."
    UNSCHEDULABLE = (
        "Unschedulable",
        ConditionType.SCHEDULED,
        "No node has the GPUs, CPU or memory asked for; the scheduler's own words follow.",
    )
    POD_REJECTED = (
        "PodRejected",
        ConditionType.SCHEDULED,
        "The API server refused a pod: quota, pod security or an admission policy.",
    )

    # Scaling
    FIXED_REPLICAS = "FixedReplicas", ConditionType.SCALING, "`replicas` sets the size."
    STEADY = "Steady", ConditionType.SCALING, "The present size serves the present demand."
    DEMAND_AT_ZERO = "DemandAtZero", ConditionType.SCALING, "Requests wait and nothing runs."
    QUEUE_DEPTH = "QueueDepth", ConditionType.SCALING, "More requests wait than the target allows."
    ARRIVAL_RATE = (
        "ArrivalRate",
        ConditionType.SCALING,
        "More requests arrive than the replicas end within the wait goal.",
    )
    REQUEST_EXPECTED = (
        "RequestExpected",
        ConditionType.SCALING,
        "Requests come so regularly that a replica is started before the next one.",
    )
    IDLE_COST = (
        "IdleCost",
        ConditionType.SCALING,
        "Waiting longer for the next request costs more than the wake, by the gaps of the past.",
    )
    BUSY = "Busy", ConditionType.SCALING, "Requests run or wait, so nothing is taken away."
    IDLE_TIMEOUT = "IdleTimeout", ConditionType.SCALING, "No request for `idleTimeout`."
    IDLE_WINDOW = "IdleWindow", ConditionType.SCALING, "Idle, but not yet for `idleTimeout`."
    AT_MAX_REPLICAS = "AtMaxReplicas", ConditionType.SCALING, "More is wanted than `maxReplicas`."
    AT_MIN_REPLICAS = "AtMinReplicas", ConditionType.SCALING, "Less is not allowed: `minReplicas`."
    POOL_MINIMUM = "PoolMinimum", ConditionType.SCALING, "Of a WarmPool: `size.min` is enough."
    WAKE_RATE = (
        "WakeRate",
        ConditionType.SCALING,
        "Of a WarmPool: wakes come so often that a further standby saves more than it costs.",
    )
    POOL_MAXIMUM = (
        "PoolMaximum",
        ConditionType.SCALING,
        "Of a WarmPool: a further standby would pay, but `size.max` is reached.",
    )
    DEMAND_UNKNOWN = (
        "DemandUnknown",
        ConditionType.SCALING,
        "Not every gateway reports, so the size is held rather than guessed.",
    )

    # Progressing
    UP_TO_DATE = "UpToDate", ConditionType.PROGRESSING, "Nothing is being changed."
    STARTING = "Starting", ConditionType.PROGRESSING, "Replicas are starting."
    DRAINING = "Draining", ConditionType.PROGRESSING, "Replicas finish their requests, then go."
    ROLLING_OUT = "RollingOut", ConditionType.PROGRESSING, "Replicas of an older spec are replaced."
    ADOPTION_FAILED = (
        "AdoptionFailed",
        ConditionType.PROGRESSING,
        "A standby could not take the model in; a fresh pod was started in its place.",
    )
    IMAGE_PULL_FAILED = (
        "ImagePullFailed",
        ConditionType.PROGRESSING,
        "A node could not pull the runtime image; check its name and the pull secret.",
    )
    CONTAINER_CRASHED = (
        "ContainerCrashed",
        ConditionType.PROGRESSING,
        "The runtime container ended by itself; the message has its exit code and last words.",
    )
    ENGINE_CRASHED = (
        "EngineCrashed",
        ConditionType.PROGRESSING,
        "The engine process of a replica died; the message has the cause.",
    )


class Phase(StrEnum):
    """`status.phase`: one word for people; programs read the conditions."""

    PENDING = "Pending"
    SCALED_TO_ZERO = "ScaledToZero"
    WAKING = "Waking"
    SERVING = "Serving"
    STOPPED = "Stopped"
    FAILED = "Failed"


class Condition(BaseModel):
    """One observation about an object, in the shape of Kubernetes' own conditions."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    type: str
    """Which question it answers: Ready, ModelAvailable, Fits, Scheduled, Scaling, Progressing."""
    status: Literal["True", "False", "Unknown"]
    """The answer. Unknown when there is not enough to say."""
    reason: str = Field(min_length=1)
    """Why, as one CamelCase word that does not change between releases."""
    message: str = ""
    """Why, for people, with what to do about it."""
    last_transition_time: str = Field(default="", json_schema_extra={"format": "date-time"})
    """When the status last changed."""
    observed_generation: int = 0
    """The `metadata.generation` that was looked at."""


def merge_conditions(
    old: Iterable[Condition], new: Iterable[Condition], now: float
) -> list[Condition]:
    """`new`, each dated `now` unless its status is the same as before: then it keeps its date.

    Types that are only in `old` are dropped: a condition that no longer applies is cleared.
    """
    before = {condition.type: condition for condition in old}
    return [_dated(condition, before.get(condition.type), now) for condition in new]


def _dated(condition: Condition, before: Condition | None, now: float) -> Condition:
    same = before is not None and before.status == condition.status
    at = before.last_transition_time if before is not None and same else format_instant(now)
    return condition.model_copy(update={"last_transition_time": at or format_instant(now)})


def format_instant(now: float) -> str:
    """Unix seconds as Kubernetes writes instants: `2026-11-21T09:35:00Z`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
