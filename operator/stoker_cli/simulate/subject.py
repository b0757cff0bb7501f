"""What is simulated: requests, and the settings that they are replayed under.

Knows how a deployment's object and the operator's record become both; does not know where they were
read, nor how a run goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stoker_api.v1alpha1 import LLMDeployment
from stoker_cli.bench.trace import Row
from stoker_cli.simulate.recorded import expand_minutes
from stoker_operator.decide.coldstart import estimate_cold_start_s, recall_cold_starts
from stoker_operator.decide.observed import Policy, derive_policy
from stoker_operator.decide.replica import ReplicaModel
from stoker_operator.decide.speed import derive_model, recall_speed

TRACE_COLD_START_S = 25.0
"""Of a trace, which does not tell what a wake takes."""

TRACE_REPLICA = ReplicaModel(16000, 0.008, 0.008 / 32, 512)
"""Of a trace, which does not tell on what it was served: about an 8B model on one large GPU."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A name, its requests and its settings."""

    name: str
    requests: list[Row]
    policy: Policy = field(default_factory=lambda: Policy(cold_start_s=TRACE_COLD_START_S))
    gpus: int = 1
    calibrated: bool = True
    """Whether the operator of this subject would know how fast a replica is."""
    parked_wake_s: float | None = None
    """What a wake takes from a standby that holds the weights, where one was seen or guessed."""

    def changed(self, settings: Mapping[str, Any]) -> Subject:
        """With other settings; bounds are kept in order."""
        policy = replace(self.policy, **settings)
        if policy.max_replicas < policy.min_replicas:
            policy = replace(policy, max_replicas=policy.min_replicas)
        return replace(self, policy=policy)


def read_subject(manifest: Mapping[str, Any], told: Mapping[str, Any]) -> Subject:
    """A deployment under its own settings and the median of its own wakes, as the cluster has it.

    Raises `ValueError` when the record is none, or nothing was asked in it.
    """
    deployment = LLMDeployment.model_validate(manifest)
    requests = expand_minutes(told)
    if not requests:
        raise ValueError(f"nothing was asked of {deployment.key} since its operators started")
    status = deployment.status
    history = recall_cold_starts(status.cold_starts or (), status.last_cold_start)
    path = status.last_cold_start.path if status.last_cold_start else "fresh"
    wake_s = estimate_cold_start_s(history, deployment.spec.model.source, path)
    model = derive_model(recall_speed(status.speed))
    policy = replace(derive_policy(deployment.spec), cold_start_s=wake_s, model=model)
    gpus = deployment.spec.resources.gpus
    return Subject(
        deployment.key,
        requests,
        policy,
        gpus,
        calibrated=model is not None,
        parked_wake_s=estimate_cold_start_s(history, deployment.spec.model.source, "resident"),
    )


def state_replica(
    measured: ReplicaModel | None, prefill: float | None, step_ms: float | None, goal_s: float
) -> ReplicaModel:
    """The replica of a simulation: as stated, else as measured, else `TRACE_REPLICA`."""
    model = replace(measured or TRACE_REPLICA, wait_goal_s=goal_s)
    if prefill is not None:
        model = replace(model, prefill_tokens_s=prefill)
    if step_ms is None:
        return model
    step_s = step_ms / 1000
    return replace(model, step_s=step_s, step_per_seq_s=step_s / 32, token_goal_s=6.25 * step_s)
