"""Reads an `LLMDeployment` as a gateway does: its name for clients, its patience, its verdicts.

Knows which conditions mean that waiting is in vain; pure. `backends` puts the result into the
fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from stoker_api.conditions import Condition, ConditionType, Reason
from stoker_api.v1alpha1 import LLMDeployment
from stoker_api.wake import order_totals

DEFAULT_HOLD_S = 120.0
DEFAULT_COLD_START_S = 30.0
HOLD_WAKES = 2.0
"""Slowest wakes for which requests of a fixed size, which has no `coldStartTimeout`, are held."""
LONGEST_HOLD_S = 3600.0


REFUSING = frozenset({Reason.INVALID_SPEC, Reason.FIELD_UNSUPPORTED, Reason.SOURCE_UNSUPPORTED})
"""Only an edit of the spec helps: requests are refused at the door."""
DOOMING = frozenset({
    Reason.CLAIM_NOT_FOUND, Reason.SECRET_NOT_FOUND, Reason.CHECKPOINT_NOT_FOUND,
    Reason.CHECKPOINT_BROKEN, Reason.ARCHITECTURE_UNSUPPORTED, Reason.OUT_OF_MEMORY,
})  # fmt: skip
"""Who waits when this appears is told at once; later requests try anew, for it may be mended."""
HINDERING = frozenset({Reason.IMAGE_PULL_FAILED, Reason.CONTAINER_CRASHED, Reason.ENGINE_CRASHED})


@dataclass(frozen=True, slots=True)
class Target:
    """What a deployment's object says to a gateway."""

    namespace: str
    name: str
    served_name: str
    created_at: int = 0
    """Unix seconds."""
    hold_s: float = DEFAULT_HOLD_S
    """`coldStartTimeout`; of a fixed size, two minutes or twice its slowest wake."""
    cold_start_s: float = DEFAULT_COLD_START_S
    """What a wake is taken to last, before one was measured."""
    wakes_s: tuple[tuple[float, ...], ...] = ()
    """What wakes took: of the likeliest path, then of slower ones."""
    refusal: str = ""
    """Why every request is refused; waiting would not help."""
    doom: str = ""
    """Why a wake that is under way will fail; a later one may not."""
    cause: str = ""
    """Why replicas may not become ready, from the conditions."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def read_target(document: bytes, key: str) -> Target:
    """The target of an object; one that cannot be read refuses every request and says why."""
    try:
        return _target(LLMDeployment.model_validate_json(document))
    except ValidationError as error:
        namespace, _, name = key.partition("/")
        why = error.errors()[0]
        where = ".".join(str(part) for part in why["loc"])
        return Target(namespace, name, name, refusal=f"`{where}` {why['msg']} (InvalidSpec)")


def _target(deployment: LLMDeployment) -> Target:
    wakes_s = order_totals(deployment.status)
    return Target(
        namespace=deployment.metadata.namespace,
        name=deployment.metadata.name,
        served_name=deployment.served_name,
        created_at=_unix(deployment.metadata.creation_timestamp),
        hold_s=_hold_s(deployment, wakes_s),
        cold_start_s=_cold_start_s(deployment),
        wakes_s=wakes_s,
        refusal=_refusal(deployment),
        doom=_first(_false(deployment), DOOMING),
        cause=_cause(deployment),
    )


def _unix(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0


def _hold_s(deployment: LLMDeployment, wakes_s: tuple[tuple[float, ...], ...]) -> float:
    policy = deployment.spec.autoscaling
    if policy is not None:
        return policy.cold_start_timeout_s
    slowest_s = max((total for path in wakes_s for total in path), default=0.0)
    return min(max(DEFAULT_HOLD_S, HOLD_WAKES * slowest_s), LONGEST_HOLD_S)


def _cold_start_s(deployment: LLMDeployment) -> float:
    scaling = deployment.status.scaling
    return (scaling and scaling.inputs.cold_start_seconds) or DEFAULT_COLD_START_S


def _refusal(deployment: LLMDeployment) -> str:
    if deployment.spec.replicas == 0:
        return "it is turned off (`replicas: 0`)."
    return _first(_false(deployment), REFUSING)


def _false(deployment: LLMDeployment) -> list[Condition]:
    """What is known to be wrong with the present spec."""
    generation = deployment.metadata.generation
    return [
        condition
        for condition in deployment.status.conditions
        if condition.status == "False" and condition.observed_generation >= generation
    ]


def _first(conditions: list[Condition], reasons: frozenset[Reason]) -> str:
    said = (_text(condition) for condition in conditions if condition.reason in reasons)
    return next(said, "")


def _cause(deployment: LLMDeployment) -> str:
    hindering = [c for c in deployment.status.conditions if c.reason in HINDERING]
    wrong = {condition.type: condition for condition in _false(deployment)}
    order = (ConditionType.MODEL_AVAILABLE, ConditionType.FITS, ConditionType.SCHEDULED)
    named = [wrong[type] for type in order if type in wrong]
    last = [wrong[ConditionType.READY]] if ConditionType.READY in wrong else []
    return next((_text(condition) for condition in [*named, *hindering, *last]), "")


def _text(condition: Condition) -> str:
    return f"{condition.message} ({condition.reason})"
