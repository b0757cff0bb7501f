"""How many replicas a deployment should have: the first autoscaler, by requests in flight.

Knows the policy, the replicas and the demand, and the state it returned last time; does not know
pods, clocks or why a replica takes long. `handlers` calls it at every change of demand.

One replica runs `slots` requests at once and may have `targetQueueDepth` more waiting, so with 32
slots and a depth of 5 it takes 37: 10 requests at zero start one replica, 100 start three. Replicas
that are starting count like ready ones, so a burst asks for the same number however often it is
looked at while they start. Fewer replicas are wanted only when nothing waits: those not needed for
`idleTimeout` go, all of them when nobody asked for `idleTimeout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stoker_api.conditions import Reason
from stoker_operator.decide.observed import ObservedDemand, Policy


@dataclass(frozen=True, slots=True)
class ScaleState:
    """What the autoscaler remembers between decisions."""

    surplus_since: float | None = None
    """Since when there have been more replicas than the requests need."""
    surplus_peak: int = 0
    """The most that were needed since then."""
    raised: tuple[Reason, str] | None = None
    """Why replicas were last added, for as long as requests wait for them."""


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """The answer, and why."""

    replicas: int
    reason: Reason
    message: str
    state: ScaleState = field(default_factory=ScaleState)
    wake_at: float | None = None
    """When to ask again although nothing has changed."""


def decide_scale(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState, now: float
) -> ScaleDecision:
    """The number of replicas wanted now; `replicas` counts ready and starting ones."""
    if policy.fixed is not None:
        return ScaleDecision(policy.fixed, Reason.FIXED_REPLICAS, f"replicas is {policy.fixed}.")
    needed = _needed_replicas(policy, demand)
    if needed > replicas:
        return _decide_up(policy, replicas, needed)
    if not demand.known:
        return _decide_blind(policy, replicas)
    return _bounded(policy, _decide_down(policy, replicas, demand, state, now))


def _needed_replicas(policy: Policy, demand: ObservedDemand) -> int:
    in_flight = demand.queued + demand.running
    return -(-in_flight // (policy.slots + policy.target_queue_depth))


def _decide_up(policy: Policy, replicas: int, needed: int) -> ScaleDecision:
    wanted = max(min(needed, policy.max_replicas), policy.min_replicas)
    if needed > policy.max_replicas:
        message = f"The requests want more than maxReplicas {policy.max_replicas}."
        return ScaleDecision(wanted, Reason.AT_MAX_REPLICAS, message)
    depth = policy.target_queue_depth
    if replicas == 0:
        reason, message = Reason.DEMAND_AT_ZERO, f"Requests wait and nothing runs: 0 → {wanted}."
    else:
        reason = Reason.QUEUE_DEPTH
        message = f"More than targetQueueDepth {depth} wait per replica: {replicas} → {wanted}."
    return ScaleDecision(wanted, reason, message, ScaleState(raised=(reason, message)))


def _decide_blind(policy: Policy, replicas: int) -> ScaleDecision:
    held = min(max(replicas, policy.min_replicas), policy.max_replicas)
    message = f"Not every gateway reports yet: {held} held, nothing is scaled down on a guess."
    return ScaleDecision(held, Reason.DEMAND_UNKNOWN, message)


def _decide_down(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState, now: float
) -> ScaleDecision:
    if demand.queued:
        reason, message = state.raised or (Reason.BUSY, "Requests wait; the replicas suffice.")
        return ScaleDecision(replicas, reason, message, ScaleState(raised=state.raised))
    if demand.running:
        return _shed_surplus(policy, replicas, -(-demand.running // policy.slots), state, now)
    if replicas <= policy.min_replicas:
        return ScaleDecision(replicas, Reason.STEADY, "Nobody asks.")
    return _decide_idle(policy, replicas, demand, state, now)


def _decide_idle(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState, now: float
) -> ScaleDecision:
    idle_until = demand.active_at + policy.idle_timeout_s
    if now >= idle_until:
        message = f"No request for idleTimeout {policy.idle_timeout_s:g}s."
        return ScaleDecision(policy.min_replicas, Reason.IDLE_TIMEOUT, message)
    shed = _shed_surplus(policy, replicas, 0, state, now)
    message = f"Idle; {policy.min_replicas} wanted after idleTimeout without requests."
    wake_at = min(idle_until, shed.wake_at or idle_until)
    return ScaleDecision(shed.replicas, Reason.IDLE_WINDOW, message, shed.state, wake_at)


def _shed_surplus(
    policy: Policy, replicas: int, needed: int, state: ScaleState, now: float
) -> ScaleDecision:
    """Take away what was not needed for `idleTimeout`, down to the most needed in that time."""
    keep = max(needed, policy.min_replicas, 1)
    if keep >= replicas:
        return ScaleDecision(replicas, Reason.BUSY, "Requests run; every replica is needed.")
    since, peak = state.surplus_since, max(keep, state.surplus_peak)
    if since is None or peak >= replicas:
        since, peak = now, keep
    until = since + policy.idle_timeout_s
    if now < until:
        message = "Fewer replicas would do, but not yet for idleTimeout."
        return ScaleDecision(replicas, Reason.BUSY, message, ScaleState(since, peak), until)
    message = f"{peak} sufficed for idleTimeout {policy.idle_timeout_s:g}s: {replicas} → {peak}."
    return ScaleDecision(peak, Reason.IDLE_WINDOW, message, ScaleState(now, keep))


def _bounded(policy: Policy, decision: ScaleDecision) -> ScaleDecision:
    low, high = policy.min_replicas, policy.max_replicas
    if decision.replicas < low:
        message = f"minReplicas is {low}."
        return ScaleDecision(low, Reason.AT_MIN_REPLICAS, message, decision.state)
    if decision.replicas > high:
        message = f"maxReplicas is {high}."
        return ScaleDecision(high, Reason.AT_MAX_REPLICAS, message, decision.state)
    return decision
