"""Events: new sizes, and what has become bad, each once."""

from __future__ import annotations

from stoker_api.conditions import Condition
from stoker_api.status import LLMDeploymentStatus, ScalingStatus
from stoker_operator.decide.event import Note, derive_notes


def _status(desired: int | None, **conditions: str) -> LLMDeploymentStatus:
    listed = []
    for kind, verdict in conditions.items():
        truth, reason = verdict.split("/")
        listed.append(Condition(type=kind, status=truth, reason=reason, message=f"{reason}!"))
    scaling = None
    if desired is not None:
        scaling = ScalingStatus(desired=desired, reason="DemandAtZero", message="0 → 1.")
    return LLMDeploymentStatus(conditions=listed, scaling=scaling)


def test_a_new_size_is_told_with_its_reason() -> None:
    notes = derive_notes(_status(0), _status(1, Ready="True/Waking"))
    assert notes == (Note("Normal", "DemandAtZero", "0 → 1."),)
    assert derive_notes(_status(None), _status(0)) == ()
    assert derive_notes(_status(1), _status(None)) == ()


def test_what_has_become_bad_is_told_once_under_one_reason() -> None:
    bad = _status(1, Ready="False/CheckpointBroken", ModelAvailable="False/CheckpointBroken")
    assert derive_notes(_status(1, Ready="True/Waking"), bad) == (
        Note("Warning", "CheckpointBroken", "CheckpointBroken!"),
    )
    assert derive_notes(bad, bad) == ()


def test_serving_is_told_and_rest_is_not() -> None:
    after = _status(1, Ready="True/Serving", Progressing="False/UpToDate")
    assert [note.reason for note in derive_notes(_status(1), after)] == ["Serving"]
    stopped = _status(1, Ready="False/Stopped")
    assert derive_notes(_status(1), stopped) == ()
