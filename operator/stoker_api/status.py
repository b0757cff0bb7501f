"""What the operator reports: the `status` of `LLMDeployment` and `WarmPool`.

Knows the fields; does not know how they are derived (`stoker_operator.decide.status` does). Only
the operator writes them.
"""

from __future__ import annotations

from pydantic import Field

from stoker_api.conditions import Condition
from stoker_api.fields import ApiModel


class ScalingInputs(ApiModel):
    """What the autoscaler looked at when it decided."""

    queued: int = 0
    """Requests held at the gateways for want of a free slot."""
    running: int = 0
    """Requests being answered."""
    ready: int = 0
    """Replicas that answer."""
    starting: int = 0
    """Replicas on their way; they count as capacity, so a burst does not double again."""
    idle_seconds: float | None = None
    """Seconds since a request last came or ended, when this was written; absent while one waits or
    runs."""
    cold_start_seconds: float | None = None
    """What a cold start is taken to last: measured, or an estimate before the first one."""
    requests_per_second: float | None = None
    """Requests a second that one replica is taken to carry; absent while nothing tells, and the
    slots alone decide."""


class ScalingChange(ApiModel):
    """One change of the number of replicas wanted."""

    at: str = Field(default="", json_schema_extra={"format": "date-time"})
    """When it was decided."""
    from_replicas: int = 0
    """Replicas wanted before."""
    to_replicas: int = 0
    """Replicas wanted since."""
    reason: str = ""
    """Why, as one CamelCase word."""
    message: str = ""
    """Why, in a sentence."""


class ScalingStatus(ApiModel):
    """The autoscaler's last decision, and why."""

    desired: int = 0
    """Replicas wanted."""
    reason: str = ""
    """Why, as one CamelCase word."""
    message: str = ""
    """Why, in a sentence with the numbers that decided."""
    inputs: ScalingInputs = Field(default_factory=ScalingInputs)
    """The numbers themselves."""
    changes: list[ScalingChange] = Field(
        default=[], max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The last changes of `desired`, oldest first; `stoker why` shows them."""


class ColdStartPhases(ApiModel):
    """Seconds spent in each step of a cold start, in order; a step not seen is absent."""

    decided: float | None = None
    """From the request's arrival at the gateway to the operator's decision."""
    scheduled: float | None = None
    """Until the pod had a node."""
    image: float | None = None
    """Until the image was on the node; near 0 when it was there."""
    container: float | None = None
    """Until the container's first process ran; on a standby, until it got the order to load."""
    imports: float | None = None
    """Until the runtime had loaded its libraries."""
    weights: float | None = None
    """Until the checkpoint was in memory."""
    first_token: float | None = None
    """Until the first token had been made."""


class ColdStart(ApiModel):
    """How long the last wake took, and where the time went."""

    path: str = "fresh"
    """What was there already: `fresh` (image and weights on the node at best), `warm` (a standby
    pod), `resident` (a standby that holds the weights in memory)."""
    total: float = 0
    """Seconds from the decision's cause to the first token."""
    phases: ColdStartPhases = Field(default_factory=ColdStartPhases)
    """Seconds spent in each step."""


class ColdStartRecord(ApiModel):
    """How long the latest wakes of one path took."""

    path: str
    """`fresh`, `warm` or `resident`."""
    count: int = 0
    """Wakes remembered."""
    median: float = 0
    """Seconds that half of them stayed below."""
    p90: float = 0
    """Seconds that nine of ten stayed below."""
    totals: list[float] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Seconds of each, oldest first: an operator that restarts goes on from them."""


class ReplicaSpeed(ApiModel):
    """How fast a replica is, as runtimes report it; the autoscaler plans with it."""

    template: str = ""
    """Hash of the spec that the reporting pods were made from."""
    reports: int = 0
    """Reports that these medians are of, five at most."""
    prefill_tokens_per_second: float = 0
    """Prompt tokens a second, those found in the prefix cache included."""
    step_seconds: float = 0
    """Seconds of a step of the engine before it has computed anything."""
    seconds_per_sequence: float = 0
    """Seconds more for each sequence that decodes in it."""
    chunk_tokens: int = 0
    """Tokens that one step may carry."""


class LLMDeploymentStatus(ApiModel):
    """What was observed; written by the operator alone."""

    observed_generation: int = 0
    """The `metadata.generation` that this status is about; older than the object's means that the
    operator has not seen the latest change yet."""
    phase: str = ""
    """One word for people: Pending, ScaledToZero, Waking, Serving, Stopped or Failed. Programs
    should read the conditions."""
    replicas: int = 0
    """Pods that exist for this deployment, draining ones excepted."""
    ready_replicas: int = 0
    """Pods that answer requests."""
    selector: str = ""
    """Label selector of the pods, for `kubectl scale`, autoscalers and disruption budgets."""
    url: str = ""
    """Base URL for OpenAI clients inside the cluster."""
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    """Ready sums up; ModelAvailable, Fits, Scheduled, Scaling and Progressing say what hinders."""
    scaling: ScalingStatus | None = None
    """The autoscaler's last decision, and why."""
    last_cold_start: ColdStart | None = None
    """How long the last wake took, and where the time went."""
    cold_starts: list[ColdStartRecord] | None = Field(
        default=None,
        max_length=3,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["path"],
        },
    )
    """What wakes took so far, by path; lead times and `Retry-After` come from it."""
    speed: ReplicaSpeed | None = None
    """How fast a replica is, as runtimes report it; the autoscaler plans with it."""


class PoolSizing(ApiModel):
    """How many standbys are wanted, and why."""

    desired: int = 0
    """Standbys wanted."""
    reason: str = ""
    """Why, as one CamelCase word."""
    message: str = ""
    """Why, in a sentence with the numbers that decided."""
    wakes_per_hour: float = 0
    """Replicas that its deployments lately asked for, those it could not serve included."""
    refill_seconds: float | None = None
    """What a new standby takes until it can be adopted: measured, absent before the first one."""


class PoolWakes(ApiModel):
    """What is remembered of wakes: an operator that restarts sizes the pool from it."""

    at: str = ""
    """When the last one was."""
    wakes: float = 0
    """Replicas asked for until then, those of half an hour before counted as 1/e each."""
    saved_seconds: float = 0
    """What standbys spare them, in all, counted in the same way."""
    refills: list[float] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """Seconds that the latest new standbys took, oldest first."""


class WarmPoolStatus(ApiModel):
    """What was observed; written by the operator alone."""

    observed_generation: int = 0
    """The `metadata.generation` that this status is about."""
    standby: int = 0
    """Pods that wait to be adopted."""
    starting: int = 0
    """Pods on their way to being standbys."""
    adopted: int = 0
    """Pods of this pool that now serve a deployment."""
    sizing: PoolSizing | None = None
    """The last decision on the number of standbys, and why."""
    wakes: PoolWakes | None = None
    """What such decisions are made from; absent before the first wake."""
    selector: str = ""
    """Label selector of the standby pods."""
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    """Ready sums up; ModelAvailable, Fits, Scheduled, Scaling and Progressing say what hinders."""
