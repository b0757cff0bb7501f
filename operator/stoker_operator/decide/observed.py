"""Frozen snapshots of what was seen: pods, demand, and the policy that the spec sets.

Knows the fields and a few derived values; does not know where they were read nor what follows.
`cluster` and `handlers` fill them, the other files of this room decide on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stoker_api.conditions import ConditionType, Reason
from stoker_api.demand import Room
from stoker_api.v1alpha1 import LLMDeploymentSpec
from stoker_operator.decide.replica import ReplicaModel

DEFAULT_SLOTS = 32
"""Sequences that the runtime runs at once unless `engine.maxNumSeqs` says otherwise."""
MISS_PRICE = 3.0
"""A request that waits for a cold start is worth at most three cold starts of a replica's time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pod, or the whole deployment, cannot do its work."""

    reason: str
    """CamelCase; normally a `Reason`, but a newer runtime may say something else."""
    message: str
    """What happened and what to do about it."""
    final: bool = True
    """Whether only a new pod can help; the kubelet itself retries the others."""
    before_start: bool = False
    """Whether it kept the container from starting, so that it is over when one runs."""

    @property
    def condition(self) -> ConditionType:
        """The condition that tells of it."""
        known = Reason.__members__.values()
        return next((r.condition for r in known if r == self.reason), ConditionType.PROGRESSING)


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """One runtime pod."""

    name: str
    uid: str
    template: str
    """Hash of the spec it was made from."""
    created_at: float
    terminating: bool = False
    scheduled: bool = False
    unschedulable: str = ""
    """The scheduler's words when no node fits."""
    unschedulable_at: float = 0.0
    started: bool = False
    """Whether its container runs or has run."""
    ready: bool = False
    failure: Failure | None = None
    room: Room | None = None
    """What it found when it had loaded the model."""
    running: int = 0
    """Requests that the gateways have handed to it."""
    warm_tokens: float = 0.0
    """Tokens in its prefix cache times the share of prompts that it finds there."""

    @property
    def failed(self) -> bool:
        """Whether it will not become ready by itself."""
        return self.failure is not None and not self.ready


@dataclass(frozen=True, slots=True)
class ObservedDemand:
    """What all gateways want of one deployment, summed."""

    known: bool = False
    """Whether every gateway has reported, so that silence means that nobody asks."""
    deaf: bool = False
    """Whether no gateway has been heard for longer than a reconnection takes."""
    queued: int = 0
    queued_tokens: int = 0
    """Prompt tokens of those, as the gateways estimate them from bytes."""
    running: int = 0
    """Requests on pods that are not terminating."""
    active_at: float = 0.0
    """When a request last came or ended, or since when nothing was seen of any."""
    oldest_wait_s: float = 0.0
    """How long the request that is held longest has waited."""
    arrivals: int = 0
    """Requests that ever came, as the gateways count: only its growth means anything."""
    arrived_tokens: int = 0
    """Prompt tokens that ever came, an estimate: only its growth means anything."""
    completed_tokens: int = 0
    """Tokens ever made for requests that ended; 0 until the first answer that tells its usage."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many replicas the spec allows, and when."""

    fixed: int | None = None
    min_replicas: int = 0
    max_replicas: int = 10
    target_queue_depth: int = 5
    idle_timeout_s: float = 300.0
    cold_start_timeout_s: float = 120.0
    slots: int = DEFAULT_SLOTS
    cold_start_s: float = 30.0
    """What a cold start is taken to last."""
    late_start_s: float = 0.0
    """What nine of ten cold starts stay within, as far as they were measured."""
    first_wake_s: float | None = None
    """What waking the first replica takes, where one is parked; else a cold start."""
    miss_price: float = MISS_PRICE
    """What a request that meets a cold start is worth, in cold starts, at most."""
    model: ReplicaModel | None = None
    """How fast a replica is, where it was calibrated."""

    @property
    def wake_s(self) -> float:
        """How long the first replica takes."""
        return self.cold_start_s if self.first_wake_s is None else self.first_wake_s


def derive_policy(spec: LLMDeploymentSpec) -> Policy:
    """The scaling rules of a spec, defaults filled in."""
    slots = spec.engine.max_num_seqs or DEFAULT_SLOTS
    scaling = spec.autoscaling
    if scaling is None:
        return Policy(fixed=spec.replicas, slots=slots)
    return Policy(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        target_queue_depth=scaling.target_queue_depth,
        idle_timeout_s=scaling.idle_timeout_s,
        cold_start_timeout_s=scaling.cold_start_timeout_s,
        slots=slots,
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one reconciliation of one deployment looked at."""

    template: str
    """Hash of the wanted pod template."""
    generation: int
    policy: Policy
    pods: tuple[ObservedPod, ...] = ()
    demand: ObservedDemand = field(default_factory=ObservedDemand)
    problem: Failure | None = None
    """What in the spec or around it keeps pods from being made."""
    taken: frozenset[str] = frozenset()
    """Further names that pods bear: those of a pool that serve a deployment by now."""

    @property
    def live(self) -> tuple[ObservedPod, ...]:
        """The replicas: pods that are not on their way out."""
        return tuple(pod for pod in self.pods if not pod.terminating)

    @property
    def ready(self) -> int:
        """Replicas that answer."""
        return count_ready(self.live)

    @property
    def starting(self) -> int:
        """Replicas that may yet become ready."""
        return sum(not pod.ready and not pod.failed for pod in self.live)


def count_ready(pods: Iterable[ObservedPod]) -> int:
    """How many of the pods answer."""
    return sum(pod.ready for pod in pods)
