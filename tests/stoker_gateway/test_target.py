"""What a gateway reads out of an LLMDeployment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker_gateway.target import Target, read_target
from support.fake_watch import make_deployment


def read(**parts: Any) -> Target:
    return read_target(json.dumps(make_deployment(**parts)).encode(), "default/chat")


def condition(type_: str, reason: str, status: str = "False", generation: int = 1) -> Any:
    said = {"type": type_, "reason": reason, "status": status, "message": f"about {reason}"}
    return said | {"observedGeneration": generation}


def with_conditions(*conditions: Any) -> Target:
    return read(status={"conditions": list(conditions)})


def test_a_plain_deployment_is_called_by_its_name_and_has_the_defaults() -> None:
    target = read()
    assert target == Target("default", "chat", "chat", created_at=1795251600, hold_s=120)


def test_reads_served_name_and_patience() -> None:
    model = {"source": "pvc://models/chat", "servedName": "llama"}
    target = read(spec={"model": model, "scaling": {"coldStartTimeout": "90s"}})
    assert (target.served_name, target.hold_s) == ("llama", 90)


@pytest.mark.parametrize(
    ("totals", "hold_s"), [([], 120), ([5.0, 8.0], 120), ([80.0, 90.0], 180), ([1e5], 3600)]
)
def test_a_fixed_size_is_held_for_two_minutes_or_twice_its_slowest_wake(
    totals: list[float], hold_s: float
) -> None:
    status = {"coldStarts": [{"path": "fresh", "totals": totals}]}
    assert read(spec={"replicas": 2}, status=status).hold_s == hold_s


def test_what_wakes_took_is_read_from_the_status() -> None:
    records = [{"path": "fresh", "totals": [8, 9]}, {"path": "warm", "totals": [2]}]
    status = {"coldStarts": records, "lastColdStart": {"path": "warm", "total": 2}}
    assert read(status=status).wakes_s == ((2,), (8, 9))


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        pytest.param({}, 30, id="nothing known"),
        pytest.param(
            {"scaling": {"inputs": {"coldStartSeconds": 4}}}, 4, id="what the operator believes"
        ),
    ],
)
def test_a_wake_is_expected_to_last_as_long_as(status: Any, seconds: float) -> None:
    assert read(status=status).cold_start_s == seconds


def test_no_replicas_means_that_it_is_off() -> None:
    assert read(spec={"replicas": 0}).refusal == "it is turned off (`replicas: 0`)."


def test_a_spec_that_only_an_edit_can_mend_refuses() -> None:
    target = with_conditions(condition("ModelAvailable", "SourceUnsupported"))
    assert target.refusal == "about SourceUnsupported (SourceUnsupported)"


def test_a_verdict_about_an_older_spec_does_not_count() -> None:
    target = with_conditions(condition("ModelAvailable", "SourceUnsupported", generation=0))
    assert (target.refusal, target.doom, target.cause) == ("", "", "")


def test_a_broken_checkpoint_dooms_the_wake_but_does_not_refuse() -> None:
    target = with_conditions(condition("ModelAvailable", "CheckpointBroken"))
    assert target.refusal == ""
    assert target.doom == target.cause == "about CheckpointBroken (CheckpointBroken)"


def test_a_true_condition_is_no_cause() -> None:
    assert with_conditions(condition("Ready", "Serving", status="True")).cause == ""


def test_the_nearest_cause_is_named() -> None:
    ready = condition("Ready", "Waking")
    progress = condition("Progressing", "ImagePullFailed", status="True")
    scheduled = condition("Scheduled", "Unschedulable")
    assert "Waking" in with_conditions(ready).cause
    assert "ImagePullFailed" in with_conditions(ready, progress).cause
    assert "Unschedulable" in with_conditions(ready, progress, scheduled).cause


def test_an_object_that_cannot_be_read_refuses_by_name() -> None:
    target = read(spec={"model": {"source": "ftp://x"}})
    assert target.key == "default/chat"
    assert target.refusal.startswith("`spec.model.source`")
