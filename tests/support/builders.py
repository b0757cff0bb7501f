"""Builders of the pure rules' inputs, with defaults that a test only overrides where it cares."""

from __future__ import annotations

from typing import Any

from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.decide.observed import Failure, Observed, ObservedDemand, ObservedPod, Policy

TEMPLATE = "new00000"
OLD = "old00000"


def make_pod(name: str = "chat-new00000-0", **facts: Any) -> ObservedPod:
    """A scheduled pod of the wanted template that is starting."""
    defaults: dict[str, Any] = {
        "uid": f"uid-of-{name}",
        "template": TEMPLATE,
        "created_at": 0.0,
        "scheduled": True,
    }
    return ObservedPod(name=name, **defaults | facts)


def make_ready(name: str = "chat-new00000-0", **facts: Any) -> ObservedPod:
    """A pod that answers."""
    return make_pod(name, ready=True, **facts)


def make_old(name: str = "chat-old00000-0", **facts: Any) -> ObservedPod:
    """A pod of an older template that answers."""
    return make_pod(name, **{"template": OLD, "ready": True} | facts)


def make_failed(name: str = "chat-new00000-0", reason: str = "CheckpointBroken") -> ObservedPod:
    """A pod that gave up."""
    return make_pod(name, failure=Failure(reason, "it is broken"))


def make_demand(queued: int = 0, running: int = 0, **more: Any) -> ObservedDemand:
    """Demand that all gateways have reported."""
    return ObservedDemand(queued=queued, running=running, **{"known": True} | more)


def make_observed(*pods: ObservedPod, **more: Any) -> Observed:
    """What was seen of a deployment."""
    defaults: dict[str, Any] = {"template": TEMPLATE, "generation": 1, "policy": Policy()}
    return Observed(pods=pods, **defaults | more)


def make_llm(**spec: Any) -> LLMDeployment:
    """A parsed LLMDeployment named ns/chat, on the CPU."""
    base = {"model": {"source": "pvc://models/tiny"}, "resources": {"gpus": 0}}
    metadata = {"name": "chat", "namespace": "ns", "uid": "uid-1", "generation": 1}
    return LLMDeployment.model_validate({"metadata": metadata, "spec": base | spec})


def make_warm_pool(**spec: Any) -> WarmPool:
    """A parsed WarmPool named ns/shared, on the CPU."""
    metadata = {"name": "shared", "namespace": "ns", "uid": "uid-2", "generation": 1}
    return WarmPool.model_validate(
        {"metadata": metadata, "spec": {"resources": {"gpus": 0}} | spec}
    )
