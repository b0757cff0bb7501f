"""What a deployment's `status` says: phase, conditions, scaling, last cold start.

Knows what was seen and decided, and the words of the API; does not know clocks or writes. Messages
hold no number that moves with the load, so that a status is written when something has changed for
a reader, not at every request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stoker_api.conditions import (
    Condition,
    ConditionType,
    Phase,
    Reason,
    format_instant,
    merge_conditions,
)
from stoker_api.status import (
    ColdStart,
    ColdStartRecord,
    LLMDeploymentStatus,
    ReplicaSpeed,
    ScalingChange,
    ScalingInputs,
    ScalingStatus,
)
from stoker_operator.decide.autoscaler import ScaleDecision
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.fit import describe_room
from stoker_operator.decide.observed import Failure, Observed, ObservedPod
from stoker_operator.decide.size import Guess

Verdict = tuple[Literal["True", "False", "Unknown"], str, str]
"""Status, reason and message of one condition."""

REFRESH_S = 10.0
"""How old numbers in `status.scaling.inputs` may become while only they change."""

REMEMBERED_CHANGES = 5
"""Changes of the number of replicas that `status.scaling.changes` keeps."""

_WAITING = frozenset(
    {Reason.CLAIM_NOT_FOUND, Reason.SECRET_NOT_FOUND, Reason.GATEWAY_UNAVAILABLE, Reason.WAKING}
)


@dataclass(frozen=True, slots=True)
class StatusSources:
    """Everything that a status is derived from."""

    before: LLMDeploymentStatus
    observed: Observed
    decision: ScaleDecision
    failures: FailureMemory
    cold_start_s: float
    """What a wake is taken to last."""
    url: str
    selector: str
    rejection: Failure | None = None
    """Why the API server refused the last pod."""
    guess: Guess | None = None
    """What the model's name says of its size."""
    last_cold_start: ColdStart | None = None
    cold_starts: list[ColdStartRecord] | None = None
    """What wakes took so far."""
    speed: ReplicaSpeed | None = None
    """How fast a replica is."""

    @property
    def wanted(self) -> int:
        """Replicas decided."""
        return self.decision.replicas

    @property
    def hindrance(self) -> Failure | None:
        """What keeps a request from being answered, when nothing serves."""
        if self.observed.ready:
            return None
        if self.wanted == 0 and self.observed.policy.fixed == 0:
            return None
        return self.observed.problem or self.failures.failure or self.rejection


def derive_status(sources: StatusSources, now: float) -> LLMDeploymentStatus:
    """The status to show now."""
    generation = sources.observed.generation
    verdicts = {
        ConditionType.READY: _ready(sources, now),
        ConditionType.MODEL_AVAILABLE: _model_available(sources),
        ConditionType.FITS: _fits(sources),
        ConditionType.SCHEDULED: judge_placement(
            sources.rejection, sources.observed.live, "pod", "spec.resources"
        ),
        ConditionType.SCALING: _scaling(sources),
        ConditionType.PROGRESSING: _progressing(sources),
    }
    conditions = [
        Condition(type=kind, status=s, reason=r, message=m, observed_generation=generation)
        for kind, verdict in verdicts.items()
        if verdict is not None
        for s, r, m in [verdict]
    ]
    return LLMDeploymentStatus(
        observed_generation=generation,
        phase=_phase(verdicts[ConditionType.READY]),
        replicas=len(sources.observed.live),
        ready_replicas=sources.observed.ready,
        selector=sources.selector,
        url=sources.url,
        conditions=merge_conditions(sources.before.conditions, conditions, now),
        scaling=_scaling_status(sources, now),
        last_cold_start=sources.last_cold_start or sources.before.last_cold_start,
        cold_starts=sources.cold_starts or sources.before.cold_starts,
        speed=sources.speed,
    )


def is_worth_writing(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> bool:
    """Whether more has changed than the numbers that move with every request."""
    return _without_numbers(before) != _without_numbers(after)


def cold_start_deadline(observed: Observed) -> float | None:
    """When the wake in progress will have taken `coldStartTimeout`; nothing when none is."""
    if observed.ready or not observed.starting:
        return None
    started_at = min(pod.created_at for pod in observed.live if not pod.failed)
    return started_at + observed.policy.cold_start_timeout_s


def _without_numbers(status: LLMDeploymentStatus) -> LLMDeploymentStatus:
    if status.scaling is None:
        return status
    scaling = status.scaling.model_copy(update={"inputs": ScalingInputs()})
    return status.model_copy(update={"scaling": scaling})


def _scaling_status(sources: StatusSources, now: float) -> ScalingStatus:
    decision, before = sources.decision, sources.before.scaling or ScalingStatus()
    inputs, kept = _inputs(sources, now), before.inputs
    same = (decision.replicas, decision.reason) == (before.desired, before.reason)
    if same and kept.model_copy(update={"idle_seconds": inputs.idle_seconds}) == inputs:
        inputs = kept  # time that passes is no reason to write
    return ScalingStatus(
        desired=decision.replicas,
        reason=decision.reason,
        message=decision.message,
        inputs=inputs,
        changes=_changes(before, decision, now),
    )


def _inputs(sources: StatusSources, now: float) -> ScalingInputs:
    observed, demand = sources.observed, sources.observed.demand
    planned = sources.decision.state.planned
    idle = demand.known and not (demand.queued or demand.running)
    return ScalingInputs(
        queued=demand.queued,
        running=demand.running,
        ready=observed.ready,
        starting=observed.starting,
        idle_seconds=round(max(0.0, now - demand.active_at), 1) if idle else None,
        cold_start_seconds=round(sources.cold_start_s, 3),
        requests_per_second=float(f"{planned[1]:.2g}") if planned is not None else None,
    )


def _changes(before: ScalingStatus, decision: ScaleDecision, now: float) -> list[ScalingChange]:
    """The last changes of what is wanted, this one included if it is one."""
    if decision.replicas == before.desired:
        return before.changes
    change = ScalingChange(
        at=format_instant(now),
        from_replicas=before.desired,
        to_replicas=decision.replicas,
        reason=decision.reason,
        message=decision.message,
    )
    return [*before.changes, change][-REMEMBERED_CHANGES:]


def _ready(sources: StatusSources, now: float) -> Verdict:
    observed = sources.observed
    if sources.hindrance is not None:
        return "False", sources.hindrance.reason, sources.hindrance.message
    if observed.demand.deaf:
        message = "No gateway is connected: check the gateway's pods, requests cannot be seen."
        return "False", Reason.GATEWAY_UNAVAILABLE, message
    if observed.ready:
        message = f"{observed.ready} of {len(observed.live)} replicas answer."
        return "True", Reason.SERVING, message
    if sources.wanted == 0:
        return _at_rest(observed)
    deadline = cold_start_deadline(observed)
    if deadline is not None and now >= deadline:
        return "False", Reason.COLD_START_TIMEOUT, _why_so_slow(observed)
    return "True", Reason.WAKING, "The first replica is starting; requests are held meanwhile."


def _at_rest(observed: Observed) -> Verdict:
    if observed.policy.fixed == 0:
        return "False", Reason.STOPPED, "spec.replicas is 0; raise it to start the model."
    return "True", Reason.SCALED_TO_ZERO, "Nothing runs; the next request wakes a replica."


def _why_so_slow(observed: Observed) -> str:
    limit = f"No replica became ready within coldStartTimeout {_timeout(observed)}"
    words = next((pod.unschedulable for pod in observed.live if pod.unschedulable), "")
    if words:
        return f"{limit}: no node takes the pod ({words})."
    if any(not pod.scheduled for pod in observed.live):
        return f"{limit}: the pod waits for the scheduler; check that one runs."
    pod = observed.live[0].name
    return f"{limit}. It may still be loading: see `kubectl logs {pod}`, or raise the timeout."


def _timeout(observed: Observed) -> str:
    return f"{observed.policy.cold_start_timeout_s:g}s"


def _model_available(sources: StatusSources) -> Verdict | None:
    failed = _failure_of(sources, ConditionType.MODEL_AVAILABLE)
    if failed is not None:
        return failed
    if sources.observed.ready or _held(sources, ConditionType.MODEL_AVAILABLE, Reason.MODEL_LOADED):
        return "True", Reason.MODEL_LOADED, "A replica has loaded the model and made a token."
    if sources.observed.problem is not None:
        return None
    return "True", Reason.SOURCE_FOUND, "The source exists; nothing has been loaded from it yet."


def _fits(sources: StatusSources) -> Verdict:
    failed = _failure_of(sources, ConditionType.FITS)
    if failed is not None:
        return failed
    known = _held(sources, ConditionType.FITS, Reason.ENOUGH_MEMORY)
    if known is not None:
        return "True", Reason.ENOUGH_MEMORY, known.message
    if sources.observed.ready:
        return "True", Reason.ENOUGH_MEMORY, _room_of(sources.observed)
    if sources.guess is None:
        return "Unknown", Reason.NOT_MEASURED, "No replica has loaded the model yet."
    if sources.guess.too_large:
        return "False", Reason.LIKELY_TOO_LARGE, sources.guess.message
    message = f"No replica has loaded the model yet. {sources.guess.message}"
    return "Unknown", Reason.NOT_MEASURED, message


def _room_of(observed: Observed) -> str:
    """The sum of the first replica that tells it; it stays while the spec does."""
    rooms = (pod.room for pod in observed.live if pod.ready and pod.room is not None)
    room = next(rooms, None)
    return "The model was loaded with room for requests." if room is None else describe_room(room)


def judge_placement(
    rejection: Failure | None, live: tuple[ObservedPod, ...], noun: str, lever: str
) -> Verdict:
    """Whether the pods have nodes. noun: what one of them is called; lever: what to lower."""
    if rejection is not None:
        return "False", rejection.reason, rejection.message
    if not live:
        return "True", Reason.NO_PODS_WANTED, "There is nothing to place."
    words = next((pod.unschedulable for pod in live if pod.unschedulable), "")
    if words:
        return "False", Reason.UNSCHEDULABLE, f"{words} Free or add a node, or lower {lever}."
    if not all(pod.scheduled for pod in live):
        return "Unknown", Reason.PODS_PENDING, f"A {noun} waits for the scheduler."
    return "True", Reason.PODS_SCHEDULED, f"Every {noun} has a node."


def _scaling(sources: StatusSources) -> Verdict:
    decision = sources.decision
    status: Literal["True", "Unknown"] = (
        "Unknown" if decision.reason == Reason.DEMAND_UNKNOWN else "True"
    )
    return status, decision.reason, decision.message


def _progressing(sources: StatusSources) -> Verdict:
    failed = _failure_of(sources, ConditionType.PROGRESSING)
    if failed is not None:
        return failed
    observed = sources.observed
    if any(pod.template != observed.template for pod in observed.live) and not observed.problem:
        return "True", Reason.ROLLING_OUT, "Replicas of an older spec are being replaced."
    if observed.starting:
        return "True", Reason.STARTING, "Replicas are starting."
    if len(observed.live) < len(observed.pods):
        return "True", Reason.DRAINING, "Replicas finish their requests, then go."
    return "False", Reason.UP_TO_DATE, "Nothing is being changed."


def _failure_of(sources: StatusSources, kind: ConditionType) -> Verdict | None:
    for failure in (sources.observed.problem, sources.failures.failure):
        if failure is not None and failure.condition == kind:
            return "False", failure.reason, failure.message
    return None


def _held(sources: StatusSources, kind: ConditionType, reason: Reason) -> Condition | None:
    """What the last status said already, about this very spec."""
    same = (
        c
        for c in sources.before.conditions
        if c.type == kind and c.reason == reason and c.observed_generation == _generation(sources)
    )
    return next(same, None)


def _generation(sources: StatusSources) -> int:
    return sources.observed.generation


def _phase(ready: Verdict | None) -> Phase:
    assert ready is not None, "Ready is always derived"
    _, reason, _ = ready
    phases = {
        Reason.SERVING: Phase.SERVING,
        Reason.SCALED_TO_ZERO: Phase.SCALED_TO_ZERO,
        Reason.WAKING: Phase.WAKING,
        Reason.STOPPED: Phase.STOPPED,
    }
    pending = Phase.PENDING if reason in _WAITING else Phase.FAILED
    return next((phase for known, phase in phases.items() if known == reason), pending)
