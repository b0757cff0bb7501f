"""Memory of failures: counted once per pod, tried ever later, forgotten when it serves."""

from __future__ import annotations

import pytest

from stoker_api.conditions import Condition
from stoker_api.status import LLMDeploymentStatus
from stoker_operator.decide.failure import (
    FailureMemory,
    backoff_s,
    derive_failures,
    recall_failures,
)
from stoker_operator.decide.observed import Failure
from support.builders import make_failed, make_observed, make_old, make_pod, make_ready

NONE = FailureMemory(generation=1)
PULL = Failure("ImagePullFailed", "not found", final=False)


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 5), (1, 5), (2, 10), (3, 20), (9, 300)])
def test_waits_longer_after_each_failure(attempts: int, seconds: float) -> None:
    assert backoff_s(attempts) == seconds


def test_a_failed_pod_is_counted_once() -> None:
    observed = make_observed(make_failed())
    memory = derive_failures(NONE, observed, 100)
    assert (memory.attempts, memory.retry_at) == (1, 105)
    assert derive_failures(memory, observed, 103) == memory


def test_the_next_failed_pod_counts_again() -> None:
    memory = derive_failures(NONE, make_observed(make_failed()), 100)
    again = derive_failures(memory, make_observed(make_failed("chat-new00000-1")), 110)
    assert (again.attempts, again.retry_at) == (2, 120)


def test_nothing_to_look_at_forgets_nothing() -> None:
    memory = derive_failures(NONE, make_observed(make_failed()), 100)
    assert derive_failures(memory, make_observed(), 200) == memory
    assert derive_failures(memory, make_observed(make_pod()), 200) == memory


def test_a_serving_pod_clears_the_memory() -> None:
    memory = derive_failures(NONE, make_observed(make_failed()), 100)
    assert derive_failures(memory, make_observed(make_ready()), 200) == NONE
    assert derive_failures(memory, make_observed(make_old()), 200) == memory


def test_a_changed_spec_may_be_tried_at_once() -> None:
    memory = derive_failures(NONE, make_observed(make_failed()), 100)
    changed = derive_failures(memory, make_observed(make_failed(), generation=2), 101)
    assert (changed.attempts, changed.retry_at, changed.generation) == (0, 0.0, 2)


def test_what_the_kubelet_retries_is_not_counted() -> None:
    observed = make_observed(make_pod(failure=PULL))
    memory = derive_failures(NONE, observed, 100)
    assert (memory.attempts, memory.retry_at, memory.failure) == (0, 0.0, PULL)


def test_what_kept_a_container_from_starting_is_over_when_it_runs() -> None:
    hiccup = Failure("ContainerCrashed", "no secret yet", final=False, before_start=True)
    memory = derive_failures(NONE, make_observed(make_pod(failure=hiccup)), 100)
    assert memory.failure == hiccup
    assert derive_failures(memory, make_observed(make_pod()), 101) == memory
    assert derive_failures(memory, make_observed(make_pod(started=True)), 101).failure is None
    crash = Failure("ContainerCrashed", "code 1", final=False)
    memory = derive_failures(NONE, make_observed(make_pod(failure=crash, started=True)), 100)
    assert derive_failures(memory, make_observed(make_pod(started=True)), 101) == memory


def test_the_first_words_of_a_failure_stay() -> None:
    memory = derive_failures(NONE, make_observed(make_pod(failure=PULL)), 100)
    backed_off = Failure("ImagePullFailed", "back-off", final=False)
    later = derive_failures(memory, make_observed(make_pod(failure=backed_off)), 101)
    assert later.failure == PULL
    crashed = Failure("ContainerCrashed", "code 1", final=False)
    worse = derive_failures(later, make_observed(make_pod(failure=crashed)), 102)
    assert worse.failure == crashed


def _status(status: str, reason: str, generation: int = 3) -> LLMDeploymentStatus:
    ready = Condition(
        type="Ready", status=status, reason=reason, message="why", observed_generation=generation
    )
    other = Condition(type="Fits", status="Unknown", reason="NotMeasured")
    return LLMDeploymentStatus(conditions=[other, ready])


def test_a_restart_recalls_what_the_status_says() -> None:
    memory = recall_failures(_status("False", "CheckpointBroken"), 3)
    assert memory.failure == Failure("CheckpointBroken", "why")
    assert memory.retry_at == 0.0


@pytest.mark.parametrize(
    "status",
    [
        _status("True", "Serving"),
        _status("False", "ClaimNotFound"),
        _status("False", "CheckpointBroken", generation=2),
        LLMDeploymentStatus(),
    ],
    ids=["serving", "not-of-pods", "older-spec", "empty"],
)
def test_a_restart_recalls_nothing_else(status: LLMDeploymentStatus) -> None:
    assert recall_failures(status, 3) == FailureMemory(3)
