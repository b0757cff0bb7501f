"""Which pods to make and which to delete, one step at a time.

Knows the wanted number, the wanted template and the pods; does not know why that number is wanted.
Pure and stateless: the next step follows from what is seen after this one.

A new template replaces pods one by one: one extra pod is started, and once it is ready an old one
is drained. Where no node has room for the extra pod, an old one is drained first while the gateway
holds requests. Terminating pods are not replicas and block nothing, except their own name.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from stoker_api.names import pod_name
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Observed, ObservedPod, count_ready

SURGE = 1
WARM_TOKENS = 256
"""A cache that spares fewer tokens is as good as cold."""
SURGE_PATIENCE_S = 5.0
"""How long the scheduler may take to find room for the extra pod of a rollout."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step."""

    create: tuple[str, ...] = ()
    """Names of pods to make."""
    delete: tuple[ObservedPod, ...] = ()
    """Pods to drain and delete."""
    wake_at: float | None = None
    """When to plan again although nothing has changed."""


def plan_rollout(
    deployment: str, wanted: int, observed: Observed, failures: FailureMemory, now: float
) -> Plan:
    """The step from the pods seen towards `wanted` pods of the wanted template."""
    if wanted == 0 or observed.problem is not None:
        surplus = len(observed.live) - wanted
        return Plan(
            delete=pick_victims(observed.live, surplus, observed.template, keep_ready=wanted)
        )
    blocked = now < failures.retry_at and not count_ready(_current(observed))
    delete = _doomed(observed, wanted, blocked, failures, now)
    kept = [pod for pod in observed.live if pod not in delete]
    old = sum(pod.template != observed.template for pod in kept)
    surplus = len(kept) - wanted - (SURGE if old else 0)
    delete += pick_victims(kept, surplus, observed.template, keep_ready=wanted)
    kept = [pod for pod in kept if pod not in delete]
    current = sum(pod.template == observed.template for pod in kept)
    room = 0 if blocked else min(wanted - current, wanted + SURGE - len(kept))
    return Plan(
        _free_names(deployment, observed, room), delete, _next_look(observed, failures, now)
    )


def pick_victims(
    pods: Iterable[ObservedPod], count: int, template: str, keep_ready: int = 0
) -> tuple[ObservedPod, ...]:
    """The pods missed least: of an old template, then the emptiest, not ready, the coldest cache,
    the youngest. Caches differ when one is worth twice as much: less is noise, and age decides.

    At least `keep_ready` of those that answer are spared, where there are as many.
    """

    def worth(pod: ObservedPod) -> tuple[bool, int, bool, int, float, str]:
        current, warmth = pod.template == template, int(pod.warm_tokens / WARM_TOKENS).bit_length()
        return (current, pod.running, pod.ready, warmth, -pod.created_at, pod.name)

    ordered = sorted(pods, key=worth)
    answering = [pod.uid for pod in ordered if pod.ready]
    spared = answering[max(0, len(answering) - keep_ready) :]
    return tuple(pod for pod in ordered if pod.uid not in spared)[: max(0, count)]


def _current(observed: Observed) -> list[ObservedPod]:
    return [pod for pod in observed.live if pod.template == observed.template]


def _doomed(
    observed: Observed, wanted: int, blocked: bool, failures: FailureMemory, now: float
) -> tuple[ObservedPod, ...]:
    """Pods to replace: failed ones whose next try is due, and those of an old template."""
    retry = now >= failures.retry_at
    failed = [pod for pod in _current(observed) if pod.failure and pod.failure.final and pod.failed]
    old = [pod for pod in observed.live if pod.template != observed.template]
    useless = [pod for pod in old if pod.failed or not (pod.ready or blocked)]
    serving = [pod for pod in old if pod.ready]
    spare = count_ready(observed.live) - wanted
    if spare <= 0 and _surge_is_stuck(observed, now):
        spare = 1
    drained = pick_victims(serving, spare, observed.template)
    return (*(failed if retry else ()), *useless, *drained)


def _surge_is_stuck(observed: Observed, now: float) -> bool:
    draining = any(pod.terminating for pod in observed.pods)
    return not draining and any(
        pod.unschedulable and now >= pod.unschedulable_at + SURGE_PATIENCE_S
        for pod in _current(observed)
    )


def _free_names(deployment: str, observed: Observed, count: int) -> tuple[str, ...]:
    taken = {pod.name for pod in observed.pods} | observed.taken
    names = (pod_name(deployment, observed.template, index) for index in itertools.count())
    return tuple(itertools.islice((name for name in names if name not in taken), max(0, count)))


def _next_look(observed: Observed, failures: FailureMemory, now: float) -> float | None:
    instants = [failures.retry_at]
    if len(_current(observed)) < len(observed.live):
        waiting = (pod for pod in _current(observed) if pod.unschedulable)
        instants += [pod.unschedulable_at + SURGE_PATIENCE_S for pod in waiting]
    return min((at for at in instants if at > now), default=None)
