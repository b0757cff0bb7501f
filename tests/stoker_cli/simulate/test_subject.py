"""A deployment as the subject of a simulation: its settings, its wakes, its requests."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_cli.simulate.subject import TRACE_REPLICA, Subject, read_subject, state_replica
from support.operator_world import make_deployment

TOLD = {
    "columns": ["minute", "requests", "peak", "input_tokens", "output_tokens"],
    "minutes": [[10, 2, 1, 20, 6]],
}
WAKES = {
    "coldStarts": [{"path": "fresh", "totals": [8, 9, 20]}, {"path": "warm", "totals": [2, 3, 4]}],
    "lastColdStart": {"path": "warm", "total": 4},
}


def read(status: Any = None, told: Any = TOLD, **spec: Any) -> Subject:
    return read_subject(make_deployment(**spec) | {"status": status or {}}, told)


def test_takes_the_settings_of_the_spec_and_the_median_of_its_last_way_to_wake() -> None:
    scaling = {"minReplicas": 1, "idleTimeout": "90s", "targetQueueDepth": 2}
    subject = read(WAKES, scaling=scaling)
    policy = subject.policy
    assert (policy.min_replicas, policy.idle_timeout_s, policy.target_queue_depth) == (1, 90, 2)
    assert policy.cold_start_s == 3
    assert (subject.name, len(subject.requests), subject.gpus) == ("ns/chat", 2, 0)
    assert not subject.calibrated


def test_before_the_first_wake_it_is_guessed_by_the_name() -> None:
    assert read(model={"source": "pvc://models/llama-70b"}).policy.cold_start_s == 60


def test_a_fixed_size_stays_fixed() -> None:
    assert read(replicas=3).policy.fixed == 3


def test_a_deployment_that_nobody_asked_is_told_so() -> None:
    with pytest.raises(ValueError, match="nothing was asked of ns/chat"):
        read(told=TOLD | {"minutes": []})


def test_other_settings_keep_the_bounds_in_order() -> None:
    changed = read().changed({"min_replicas": 20})
    assert (changed.policy.min_replicas, changed.policy.max_replicas) == (20, 20)


def test_a_deployment_is_replayed_on_replicas_as_fast_as_its_own() -> None:
    speed = {"template": "abc", "reports": 2, "prefillTokensPerSecond": 400, "stepSeconds": 0.1}
    speed |= {"secondsPerSequence": 0.02, "chunkTokens": 256}
    subject = read({"speed": speed})
    assert subject.calibrated
    model = state_replica(subject.policy.model, None, None, 3.0)
    assert (model.prefill_tokens_s, model.step_s, model.wait_goal_s) == (400, 0.1, 3.0)
    stated = state_replica(subject.policy.model, 800, 50, 2.0)
    assert (stated.prefill_tokens_s, stated.step_s, stated.chunk_tokens) == (800, 0.05, 256)
    assert state_replica(None, None, None, 2.0) == TRACE_REPLICA
