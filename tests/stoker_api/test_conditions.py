"""The vocabulary of conditions, and how a list of them is merged."""

import re

import pytest

from stoker_api.conditions import (
    Condition,
    ConditionType,
    Phase,
    Reason,
    format_instant,
    merge_conditions,
)


def make_condition(status: str = "True", at: str = "", **fields: str) -> Condition:
    words = {"type": "Ready", "reason": "Serving", **fields}
    return Condition.model_validate({**words, "status": status, "lastTransitionTime": at})


EARLIER = "2026-01-01T00:00:00Z"
NOW = 1_782_000_000.0


def test_a_condition_keeps_its_date_while_its_status_stays() -> None:
    old = [make_condition(at=EARLIER)]
    new = [make_condition(reason="ScaledToZero", message="asleep")]
    [merged] = merge_conditions(old, new, NOW)
    assert merged.last_transition_time == EARLIER
    assert (merged.reason, merged.message) == ("ScaledToZero", "asleep")


def test_a_condition_is_dated_now_when_its_status_changes() -> None:
    [merged] = merge_conditions([make_condition(at=EARLIER)], [make_condition("False")], NOW)
    assert merged.last_transition_time == format_instant(NOW)


def test_a_new_condition_is_dated_now() -> None:
    [merged] = merge_conditions([], [make_condition()], NOW)
    assert merged.last_transition_time == format_instant(NOW)


def test_a_condition_without_a_date_gets_one() -> None:
    [merged] = merge_conditions([make_condition(at="")], [make_condition()], NOW)
    assert merged.last_transition_time == format_instant(NOW)


def test_a_condition_that_no_longer_applies_is_cleared() -> None:
    old = [make_condition(at=EARLIER), make_condition(type="Fits", at=EARLIER)]
    assert [kept.type for kept in merge_conditions(old, [make_condition()], NOW)] == ["Ready"]


def test_merging_twice_changes_nothing() -> None:
    once = merge_conditions([], [make_condition(), make_condition("Unknown", type="Fits")], NOW)
    assert merge_conditions(once, once, NOW + 60) == once


def test_instants_are_written_as_kubernetes_writes_them() -> None:
    assert format_instant(0.9) == "1970-01-01T00:00:00Z"


def test_unknown_condition_types_of_a_newer_release_are_read() -> None:
    newer = {"type": "Cached", "status": "True", "reason": "Hit", "severity": "x"}
    assert Condition.model_validate(newer).type == "Cached"


@pytest.mark.parametrize("member", [*ConditionType, *Reason], ids=str)
def test_every_type_and_reason_is_one_camel_case_word_with_a_meaning(
    member: ConditionType | Reason,
) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+)+", member.value)
    assert member.meaning.endswith(".")
    assert len(member.meaning) <= 120


@pytest.mark.parametrize("kind", ConditionType, ids=str)
def test_every_condition_type_has_reasons_for_more_than_one_status(kind: ConditionType) -> None:
    assert len([reason for reason in Reason if reason.condition is kind]) >= 3


def test_a_reason_is_its_text() -> None:
    assert f"{Reason.SCALED_TO_ZERO}" == "ScaledToZero"
    assert Reason("ScaledToZero").condition is ConditionType.READY
    assert Condition(type="Ready", status="True", reason=Reason.SERVING).reason == "Serving"


def test_phases_are_words() -> None:
    assert [phase.value for phase in Phase] == [
        "Pending",
        "ScaledToZero",
        "Waking",
        "Serving",
        "Stopped",
        "Failed",
    ]
