"""The status: one row per situation, and what is worth a write."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_api.conditions import Condition, Phase, Reason
from stoker_api.demand import Room
from stoker_api.status import ColdStart, LLMDeploymentStatus
from stoker_operator.decide.autoscaler import ScaleDecision, ScaleState
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Failure, Observed, Policy
from stoker_operator.decide.size import Guess
from stoker_operator.decide.status import (
    StatusSources,
    cold_start_deadline,
    derive_status,
    is_worth_writing,
)
from support.builders import (
    make_demand,
    make_failed,
    make_observed,
    make_old,
    make_pod,
    make_ready,
)

NOW = 1795255200.0
STUCK = {"unschedulable": "0/3 nodes: no GPU.", "scheduled": False}
BROKEN = FailureMemory(1, failure=Failure("CheckpointBroken", "cut off; copy it again"))
LOST = Failure("ClaimNotFound", "no claim")


def _status(
    observed: Observed, wanted: int = 1, reason: Reason = Reason.BUSY, **more: Any
) -> LLMDeploymentStatus:
    defaults: dict[str, Any] = {
        "before": LLMDeploymentStatus(),
        "failures": FailureMemory(1),
        "cold_start_s": 30.0,
        "url": "http://gateway/v1",
        "selector": "a=b",
    }
    decision = ScaleDecision(wanted, reason, "because.")
    return derive_status(
        StatusSources(observed=observed, decision=decision, **defaults | more), NOW
    )


def _condition(status: LLMDeploymentStatus, kind: str) -> Condition:
    return next(c for c in status.conditions if c.type == kind)


def _seen(*pods: Any, **more: Any) -> Observed:
    return make_observed(*pods, **{"demand": make_demand()} | more)


FIXED = Policy(fixed=0)
SITUATIONS: dict[str, tuple[LLMDeploymentStatus, str, str, Phase]] = {
    "at zero": (_status(_seen(), 0), "True", "ScaledToZero", Phase.SCALED_TO_ZERO),
    "turned off": (_status(_seen(policy=FIXED), 0), "False", "Stopped", Phase.STOPPED),
    "waking": (_status(_seen(make_pod(created_at=NOW))), "True", "Waking", Phase.WAKING),
    "no pod yet": (_status(_seen()), "True", "Waking", Phase.WAKING),
    "serving": (_status(_seen(make_ready())), "True", "Serving", Phase.SERVING),
    "wake too long": (
        _status(_seen(make_pod(created_at=NOW - 120))),
        "False",
        "ColdStartTimeout",
        Phase.FAILED,
    ),
    "broken": (
        _status(_seen(make_failed()), failures=BROKEN),
        "False",
        "CheckpointBroken",
        Phase.FAILED,
    ),
    "broken, at zero": (
        _status(_seen(), 0, failures=BROKEN),
        "False",
        "CheckpointBroken",
        Phase.FAILED,
    ),
    "broken, one serves": (
        _status(_seen(make_ready(), make_failed("b")), failures=BROKEN),
        "True",
        "Serving",
        Phase.SERVING,
    ),
    "turned off while broken": (
        _status(_seen(policy=FIXED), 0, failures=BROKEN),
        "False",
        "Stopped",
        Phase.STOPPED,
    ),
    "claim missing": (_status(_seen(problem=LOST)), "False", "ClaimNotFound", Phase.PENDING),
    "refused": (
        _status(_seen(), rejection=Failure("PodRejected", "quota")),
        "False",
        "PodRejected",
        Phase.FAILED,
    ),
    "no gateway": (
        _status(_seen(make_ready(), demand=make_demand(deaf=True))),
        "False",
        "GatewayUnavailable",
        Phase.PENDING,
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_ready_says_whether_a_request_would_be_answered(situation: str) -> None:
    status, truth, reason, phase = SITUATIONS[situation]
    ready = _condition(status, "Ready")
    assert (ready.status, ready.reason, status.phase) == (truth, reason, phase)
    assert ready.message
    assert ready.observed_generation == 1


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (make_pod(**STUCK), "no node takes the pod (0/3 nodes: no GPU.)"),
        (make_pod(scheduled=False), "check that one runs"),
        (make_pod(), "kubectl logs chat-new00000-0"),
    ],
    ids=["unschedulable", "no-scheduler", "loading"],
)
def test_a_wake_that_takes_too_long_says_what_it_waits_for(pod: Any, words: str) -> None:
    message = _condition(_status(_seen(pod)), "Ready").message
    assert "coldStartTimeout 120s" in message
    assert words in message


def test_a_model_is_available_once_loaded_and_until_the_spec_changes() -> None:
    fresh = _status(_seen(), 0)
    assert _condition(fresh, "ModelAvailable").reason == "SourceFound"
    assert _condition(fresh, "Fits").status == "Unknown"
    loaded = _status(_seen(make_ready()))
    assert _condition(loaded, "ModelAvailable").reason == "ModelLoaded"
    asleep = _status(_seen(), 0, before=loaded)
    assert _condition(asleep, "ModelAvailable").reason == "ModelLoaded"
    assert _condition(asleep, "Fits").reason == "EnoughMemory"
    changed = _status(_seen(generation=2), 0, before=loaded)
    assert _condition(changed, "ModelAvailable").reason == "SourceFound"


def test_failures_show_in_the_condition_they_belong_to() -> None:
    broken = _status(_seen(make_failed()), failures=BROKEN)
    assert _condition(broken, "ModelAvailable").message == "cut off; copy it again"
    memory = FailureMemory(1, failure=Failure("OutOfMemory", "ask for more"))
    assert _condition(_status(_seen(), failures=memory), "Fits").status == "False"
    crashed = FailureMemory(1, failure=Failure("ContainerCrashed", "code 1"))
    progressing = _condition(_status(_seen(make_pod()), failures=crashed), "Progressing")
    assert (progressing.status, progressing.reason) == ("False", "ContainerCrashed")


def test_a_field_that_is_not_supported_says_nothing_of_the_model() -> None:
    problem = Failure("FieldUnsupported", "spec.x")
    status = _status(_seen(problem=problem), 0)
    assert all(condition.type != "ModelAvailable" for condition in status.conditions)
    assert _condition(_status(_seen(problem=LOST)), "ModelAvailable").reason == "ClaimNotFound"


@pytest.mark.parametrize(
    ("pods", "truth", "reason"),
    [
        ([], "True", "NoPodsWanted"),
        ([make_pod(**STUCK)], "False", "Unschedulable"),
        ([make_pod(scheduled=False)], "Unknown", "PodsPending"),
        ([make_pod()], "True", "PodsScheduled"),
    ],
)
def test_scheduled_tells_where_pods_are(pods: list[Any], truth: str, reason: str) -> None:
    scheduled = _condition(_status(_seen(*pods)), "Scheduled")
    assert (scheduled.status, scheduled.reason) == (truth, reason)


def test_a_refused_pod_is_not_scheduled() -> None:
    rejected = _status(_seen(make_pod()), rejection=Failure("PodRejected", "exceeded quota"))
    assert _condition(rejected, "Scheduled").message == "exceeded quota"


@pytest.mark.parametrize(
    ("pods", "truth", "reason"),
    [
        ([make_ready()], "False", "UpToDate"),
        ([make_pod()], "True", "Starting"),
        ([make_ready(), make_ready("b", terminating=True)], "True", "Draining"),
        ([make_pod(), make_old()], "True", "RollingOut"),
    ],
)
def test_progressing_tells_what_is_being_changed(pods: list[Any], truth: str, reason: str) -> None:
    progressing = _condition(_status(_seen(*pods)), "Progressing")
    assert (progressing.status, progressing.reason) == (truth, reason)


def test_scaling_shows_the_decision_and_what_it_was_based_on() -> None:
    demand = make_demand(3, 2)
    status = _status(_seen(make_ready(), make_pod("b"), demand=demand), 2, Reason.QUEUE_DEPTH)
    assert status.scaling is not None
    assert (status.scaling.desired, status.scaling.reason) == (2, "QueueDepth")
    inputs = status.scaling.inputs
    assert (inputs.queued, inputs.running, inputs.ready, inputs.starting) == (3, 2, 1, 1)
    assert inputs.cold_start_seconds == 30.0
    assert (status.replicas, status.ready_replicas) == (2, 1)
    unknown = _status(_seen(), 0, Reason.DEMAND_UNKNOWN)
    assert _condition(unknown, "Scaling").status == "Unknown"


def test_each_new_size_is_remembered_with_its_reason() -> None:
    first = _status(_seen(make_pod()), 1, Reason.DEMAND_AT_ZERO)
    assert first.scaling is not None
    [change] = first.scaling.changes
    assert (change.from_replicas, change.to_replicas, change.reason) == (0, 1, "DemandAtZero")
    assert (change.at, change.message) == ("2026-11-21T10:00:00Z", "because.")
    same = _status(_seen(make_ready()), 1, Reason.BUSY, before=first)
    assert same.scaling is not None
    assert same.scaling.changes == first.scaling.changes


def test_only_the_last_changes_are_remembered() -> None:
    status = LLMDeploymentStatus()
    for wanted in range(1, 20):
        status = _status(_seen(), wanted, before=status)
    assert status.scaling is not None
    steps = [(change.from_replicas, change.to_replicas) for change in status.scaling.changes]
    assert steps == [(14, 15), (15, 16), (16, 17), (17, 18), (18, 19)]


def test_what_fits_is_the_sum_that_the_first_replica_told_until_the_spec_changes() -> None:
    room = Room(
        weight_bytes=2**30,
        kv_bytes_per_token=1024,
        memory_bytes=2**32,
        tokens=8192,
        max_model_len=4096,
    )
    first = _status(_seen(make_ready(room=room)))
    assert _condition(first, "Fits").message == (
        "Weights 1.00 GiB + 8192 tokens × 1024 B = 8.0 MiB of KV cache, of 4.00 GiB that were "
        "free: 2 sequences of 4096 tokens."
    )
    other = room.model_copy(update={"memory_bytes": 2**33})
    second = _status(_seen(make_ready(room=other)), before=first)
    assert _condition(second, "Fits") == _condition(first, "Fits")
    changed = _status(_seen(make_ready(room=other), generation=2), before=first)
    assert "of 8.00 GiB" in _condition(changed, "Fits").message


def test_before_a_replica_has_looked_the_name_tells_of_the_size() -> None:
    assert _condition(_status(_seen()), "Fits").message == "No replica has loaded the model yet."
    may = _condition(_status(_seen(), guess=Guess(False, "By its name 1B.")), "Fits")
    assert (may.status, may.reason) == ("Unknown", "NotMeasured")
    assert may.message == "No replica has loaded the model yet. By its name 1B."
    unlikely = _condition(_status(_seen(), guess=Guess(True, "By its name 9B.")), "Fits")
    assert (unlikely.status, unlikely.reason) == ("False", "LikelyTooLarge")
    proven = _condition(_status(_seen(make_ready()), guess=Guess(True, "9B")), "Fits")
    assert proven.status == "True"


def test_the_last_cold_start_stays_until_the_next() -> None:
    first = _status(_seen(make_ready()), last_cold_start=ColdStart(total=2.0))
    assert _status(_seen(), 0, before=first).last_cold_start == ColdStart(total=2.0)


def test_only_what_a_reader_sees_is_worth_a_write() -> None:
    calm = _status(_seen(make_ready(), demand=make_demand(0, 1)))
    busy = _status(_seen(make_ready(), demand=make_demand(0, 9)), before=calm)
    assert calm != busy
    assert not is_worth_writing(calm, busy)
    assert is_worth_writing(calm, _status(_seen(make_pod()), before=calm))
    assert is_worth_writing(LLMDeploymentStatus(), calm)


def test_a_wake_has_a_deadline_until_something_answers() -> None:
    waking = _seen(make_pod(created_at=50), make_pod("b", created_at=40))
    assert cold_start_deadline(waking) == 160
    assert cold_start_deadline(_seen(make_pod(), make_ready("b"))) is None
    assert cold_start_deadline(_seen(make_failed())) is None


def test_idleness_is_shown_with_what_else_has_changed_but_never_written_for_itself() -> None:
    idle = make_demand(active_at=NOW - 12.34)
    first = _status(_seen(make_ready(), demand=idle))
    assert first.scaling is not None
    assert first.scaling.inputs.idle_seconds == 12.3
    later = make_demand(active_at=NOW - 50)
    assert _status(_seen(make_ready(), demand=later), before=first) == first
    gone = _status(_seen(demand=later), 0, Reason.IDLE_TIMEOUT, before=first)
    assert gone.scaling is not None
    assert gone.scaling.inputs.idle_seconds == 50
    busy = _status(_seen(make_ready(), demand=make_demand(0, 1)), before=first)
    assert busy.scaling is not None
    assert busy.scaling.inputs.idle_seconds is None


def test_the_rate_that_a_replica_is_planned_with_is_shown() -> None:
    state = ScaleState(planned=(NOW, 3.14159))
    decision = ScaleDecision(1, Reason.BUSY, "because.", state)
    seen = _seen(make_ready())
    status = derive_status(
        StatusSources(LLMDeploymentStatus(), seen, decision, FailureMemory(1), 1.0, "", ""), NOW
    )
    assert status.scaling is not None
    assert status.scaling.inputs.requests_per_second == 3.1
