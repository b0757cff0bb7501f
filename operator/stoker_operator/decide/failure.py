"""What is remembered of pods that failed, so that a broken model neither loops nor hides.

Knows how often pods of one generation have failed and when the next try is due; does not know how a
failure is seen (`cluster.pods`) or shown (`status.py`). One failed pod stays to be looked at until
then. A changed spec tries again at once, a pod that serves clears the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker_api.conditions import ConditionType, Reason
from stoker_api.status import LLMDeploymentStatus
from stoker_operator.decide.observed import Failure, Observed, ObservedPod

BACKOFF_S = 5.0
MAX_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True)
class FailureMemory:
    """Failures of one generation of a deployment; the default remembers none."""

    generation: int = 0
    attempts: int = 0
    retry_at: float = 0.0
    failure: Failure | None = None
    pods: frozenset[str] = frozenset()
    """Identities of failed pods already counted."""


def backoff_s(attempts: int) -> float:
    """Seconds until the next try: 5, 10, 20, … at most 300."""
    return min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** max(0, attempts - 1))


_NOT_OF_PODS = frozenset(
    {
        Reason.STOPPED,
        Reason.COLD_START_TIMEOUT,
        Reason.INVALID_SPEC,
        Reason.FIELD_UNSUPPORTED,
        Reason.GATEWAY_UNAVAILABLE,
        Reason.SOURCE_UNSUPPORTED,
        Reason.CLAIM_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.POD_REJECTED,
        Reason.UNSCHEDULABLE,
    }
)


def recall_failures(status: LLMDeploymentStatus, generation: int) -> FailureMemory:
    """What the status tells a restarted operator: a failed model at zero has no pod to look at."""
    for condition in status.conditions:
        if condition.type != ConditionType.READY or condition.status != "False":
            continue
        if condition.observed_generation == generation and condition.reason not in _NOT_OF_PODS:
            failure = Failure(condition.reason, condition.message)
            return FailureMemory(generation, attempts=1, failure=failure)
    return FailureMemory(generation)


def derive_failures(memory: FailureMemory, observed: Observed, now: float) -> FailureMemory:
    """The memory after looking at the pods."""
    failed = tuple(pod for pod in observed.live if pod.failed and pod.template == observed.template)
    if memory.generation != observed.generation:
        memory = FailureMemory(observed.generation, pods=memory.pods)
    if not failed:
        return _forget(memory, observed)
    return _count_failed(memory, failed, now)


def _forget(memory: FailureMemory, observed: Observed) -> FailureMemory:
    current = [pod for pod in observed.live if pod.template == observed.template]
    if any(pod.ready for pod in current):
        return FailureMemory(observed.generation)
    over = memory.failure is not None and memory.failure.before_start
    return replace(memory, failure=None) if over and any(p.started for p in current) else memory


def _count_failed(
    memory: FailureMemory, failed: tuple[ObservedPod, ...], now: float
) -> FailureMemory:
    latest = failed[-1].failure
    uids = frozenset(pod.uid for pod in failed)
    final = any(pod.failure is not None and pod.failure.final for pod in failed)
    if uids <= memory.pods or not final:
        return replace(memory, failure=_first_words(memory.failure, latest), pods=uids)
    attempts = memory.attempts + 1
    return replace(
        memory, attempts=attempts, retry_at=now + backoff_s(attempts), failure=latest, pods=uids
    )


def _first_words(known: Failure | None, latest: Failure | None) -> Failure | None:
    """The kubelet alternates between the cause and "back-off"; what it said first says more."""
    same = known is not None and latest is not None and known.reason == latest.reason
    return known if same else latest
