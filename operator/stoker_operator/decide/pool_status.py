"""What a pool's `status` says: how many standbys wait, and what hinders.

Knows what was seen and decided, and the words of the API; does not know clocks or writes. Numbers
that move with every wake are kept as they were until the decision changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stoker_api.conditions import Condition, ConditionType, Reason, merge_conditions
from stoker_api.status import PoolSizing, PoolWakes, WarmPoolStatus
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Failure, Observed
from stoker_operator.decide.status import Verdict, judge_placement

_SHOWN = 3
"""Names that a message lists before it only counts."""


@dataclass(frozen=True, slots=True)
class PoolSources:
    """Everything that a pool's status is derived from."""

    before: WarmPoolStatus
    observed: Observed
    """Standbys, where ready means that they can be adopted."""
    sizing: PoolSizing
    adopted: int
    selector: str
    wakes: PoolWakes | None = None
    failures: FailureMemory = field(default_factory=FailureMemory)
    rejection: Failure | None = None
    """Why the API server refused the last standby."""
    missing: tuple[str, ...] = ()
    """What cannot be mounted or preloaded, in words."""
    unfit: tuple[str, ...] = ()
    """Deployments that cannot adopt a standby, each with its reason."""


def derive_pool_status(sources: PoolSources, now: float) -> WarmPoolStatus:
    """The status to show now."""
    verdicts = {
        ConditionType.READY: _ready(sources),
        ConditionType.MODEL_AVAILABLE: _model_available(sources),
        ConditionType.FITS: _fits(sources),
        ConditionType.SCHEDULED: judge_placement(
            sources.rejection, sources.observed.live, "standby", "size or resources"
        ),
        ConditionType.SCALING: ("True", sources.sizing.reason, sources.sizing.message),
        ConditionType.PROGRESSING: _progressing(sources),
    }
    generation = sources.observed.generation
    conditions = [
        Condition(type=kind, status=s, reason=r, message=m, observed_generation=generation)
        for kind, (s, r, m) in verdicts.items()
    ]
    return WarmPoolStatus(
        observed_generation=generation,
        standby=sources.observed.ready,
        starting=sources.observed.starting,
        adopted=sources.adopted,
        sizing=sources.sizing,
        wakes=sources.wakes,
        selector=sources.selector,
        conditions=merge_conditions(sources.before.conditions, conditions, now),
    )


def keep_sizing(before: PoolSizing | None, after: PoolSizing) -> PoolSizing:
    """What is shown of a decision: the same words and numbers for as long as it is the same and
    wakes do not come more often; that they are forgotten is no news."""
    if before is None or after.wakes_per_hour > before.wakes_per_hour:
        return after
    decided = (before.desired, before.reason, before.refill_seconds)
    return before if decided == (after.desired, after.reason, after.refill_seconds) else after


def _ready(sources: PoolSources) -> Verdict:
    wanted, waiting = sources.sizing.desired, sources.observed.ready
    if waiting or not wanted:
        return "True", Reason.STANDBY_WAITS, f"{waiting} of {wanted} standbys wait."
    hindrance = sources.rejection or sources.failures.failure
    if hindrance is not None:
        return "False", hindrance.reason, hindrance.message
    message = f"None of {wanted} standbys waits; deployments start fresh pods meanwhile."
    return "False", Reason.POOL_EMPTY, message


def _model_available(sources: PoolSources) -> Verdict:
    if sources.missing:
        message = f"{_list(sources.missing)} Standbys are kept without it."
        return "False", Reason.CLAIM_NOT_FOUND, message
    return "True", Reason.SOURCE_FOUND, "Every claim that is asked for is there."


def _fits(sources: PoolSources) -> Verdict:
    if sources.unfit:
        message = f"{_list(sources.unfit)} Those start fresh pods."
        return "False", Reason.DEPLOYMENTS_UNFIT, message
    return "True", Reason.DEPLOYMENTS_FIT, "Every deployment that names the pool can adopt."


def _progressing(sources: PoolSources) -> Verdict:
    observed, failure = sources.observed, sources.failures.failure
    if failure is not None and failure.condition == ConditionType.PROGRESSING:
        return "False", failure.reason, failure.message
    if any(pod.template != observed.template for pod in observed.live):
        return "True", Reason.ROLLING_OUT, "Standbys of an older spec are replaced, one by one."
    if observed.starting:
        return "True", Reason.STARTING, "Standbys are starting."
    return "False", Reason.UP_TO_DATE, "Nothing is being changed."


def _list(words: tuple[str, ...]) -> str:
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more} more." if more > 0 else ".")
