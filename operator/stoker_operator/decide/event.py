"""Which changes are worth an Event: what `kubectl describe` shows as the story of a deployment.

Knows the status before and after; does not know how Events are written. Reasons and messages are
those of the status, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stoker_api.conditions import Condition, ConditionType, Reason
from stoker_api.status import LLMDeploymentStatus


@dataclass(frozen=True, slots=True)
class Note:
    """One Event to be."""

    severity: Literal["Normal", "Warning"]
    reason: str
    message: str


def derive_notes(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> tuple[Note, ...]:
    """A note for each new size and for each condition that has become bad, each reason once."""
    known = {(c.type, c.status, c.reason) for c in before.conditions}
    notes: dict[str, Note] = {}
    for note in _resized(before, after):
        notes[note.reason] = note
    for condition in after.conditions:
        if (condition.type, condition.status, condition.reason) not in known:
            for note in _turned(condition):
                notes.setdefault(note.reason, note)
    return tuple(notes.values())


def _resized(before: LLMDeploymentStatus, after: LLMDeploymentStatus) -> list[Note]:
    if after.scaling is None:
        return []
    desired = before.scaling.desired if before.scaling is not None else 0
    if after.scaling.desired == desired:
        return []
    return [Note("Normal", after.scaling.reason, after.scaling.message)]


def _turned(condition: Condition) -> list[Note]:
    if condition.type == ConditionType.READY and condition.reason == Reason.SERVING:
        return [Note("Normal", condition.reason, condition.message)]
    quiet = condition.reason in (Reason.UP_TO_DATE, Reason.STOPPED)
    if condition.status != "False" or quiet:
        return []
    return [Note("Warning", condition.reason, condition.message)]
