"""How many replicas a deployment should have, and why.

Knows the policy, the replicas, the demand and the state it returned last time; does not know pods,
clocks or why a replica takes long. `handlers` calls it at every change of demand.

Up: a replica takes `slots` requests and `targetQueueDepth` more; that alone sizes a deployment of
which nothing is known. Once a service rate is known, arrivals size it: replicas for the rate within
the wait goal, and those that the backlog is worth (`backlog`). Starting replicas count as ready.
Down: when nothing waits, to the most needed for `idleTimeout`, or for a few cold starts once the
rate is known (ski rental). To zero: after the time that past gaps say costs least at the
price that holds the goal (`gaps`, `wakes`), at most `idleTimeout`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from stoker_api.conditions import Reason
from stoker_operator.decide.backlog import size_backlog, wait_goal_s
from stoker_operator.decide.capacity import USED_SHARE, full_rate_per_s, plan_rate_per_s
from stoker_operator.decide.history import History
from stoker_operator.decide.observed import ObservedDemand, Policy

SLACK = 0.05
"""Part of a replica that is not worth another one."""
TOLERANCE = 0.1
"""A fleet that is off by no more than this share is left alone: of tens of replicas one is noise.
The share is that of Kubernetes' HorizontalPodAutoscaler."""
SHORTEST_AWAKE_S = 70.0
"""Nobody is made to wait for a wake sooner after the last request: a little more than the minute
for which Knative keeps a last replica, so that wakes are never more than there."""
SHORTEST_HOLD_S = 20.0
"""Replicas are kept at least this long, so that two looks at noise do not flap."""
CAPACITY_AGE_S = 10.0
"""How old a planned rate may become: sizes of requests drift slowly."""
ANSWER_TOKENS = 256.0
"""An answer is taken for a quarter of its prompt and no longer than this, until the first ended."""
PROMPT_DOWN_S = 5.0
"""Idle time after which a replica goes when the next request can be told."""


@dataclass(frozen=True, slots=True)
class ScaleState:
    """What the autoscaler remembers between decisions; its size is bounded."""

    surplus_since: float | None = None
    """Since when there have been more replicas than the requests need."""
    surplus_peak: int = 0
    """The most that were needed since then."""
    raised: tuple[Reason, str] | None = None
    """Why replicas were last added, for as long as requests wait for them."""
    history: History = field(default_factory=History)
    """What arrivals have looked like."""
    planned: tuple[float, float, float] | None = None
    """When a replica's rate was last planned, and the requests a second: within the goals, full."""


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
    if demand.known:
        state = _remember(policy, demand, state, now, asleep=not replicas)
    needed = _needed_replicas(policy, replicas, demand, state)
    if needed > replicas:
        return _decide_up(policy, replicas, needed, demand, state)
    if not demand.known:
        return _decide_blind(policy, replicas, state)
    if demand.running and not demand.queued:
        needed = max(-(-demand.running // policy.slots), needed if state.planned else 0)
        return _bounded(policy, _shed_surplus(policy, replicas, needed, state, now))
    return _bounded(policy, _decide_down(policy, replicas, demand, state, now))


def _remember(
    policy: Policy, demand: ObservedDemand, state: ScaleState, now: float, asleep: bool
) -> ScaleState:
    asleep = asleep and not _wakes_in_time(policy)
    history = state.history.seen(policy, demand, now, asleep)
    planned = state.planned
    if planned is None or now >= planned[0] + CAPACITY_AGE_S:
        rates = _plan(policy, history)
        planned = (now, *rates) if rates is not None else planned
    return ScaleState(state.surplus_since, state.surplus_peak, state.raised, history, planned)


def _wakes_in_time(policy: Policy) -> bool:
    """Whether requests that meet a wake are answered within the wait goal all the same."""
    return policy.wake_s <= wait_goal_s(policy) / 2


def _plan(policy: Policy, history: History) -> tuple[float, float] | None:
    """Requests a second for one replica, within the goals and full: calibrated, else measured."""
    sizes = history.sizes
    if policy.model is not None and sizes.mean_tokens:
        outputs = history.outputs.mean_tokens or min(ANSWER_TOKENS, sizes.mean_tokens / 4)
        figures = policy.model, sizes, outputs, policy.slots
        return plan_rate_per_s(*figures), full_rate_per_s(*figures)
    measured = history.service_rate_per_s()
    return None if measured is None else (USED_SHARE * measured, measured)


def _level(replicas: float) -> int:
    return max(0, math.ceil(replicas - SLACK))


def _needed_replicas(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState
) -> int:
    in_flight = demand.queued + demand.running
    if state.planned is None:
        return -(-in_flight // (policy.slots + policy.target_queue_depth))
    history, (_, rate, full) = state.history, state.planned
    needed = _level(history.rate_per_s() / rate)
    if replicas < needed <= (1 + TOLERANCE) * replicas:
        needed = replicas
    if not in_flight:
        return min(needed, replicas)
    if demand.queued:
        backlog = size_backlog(policy, demand, replicas, history.recent_rate_per_s(), full)
        needed = max(needed, round(backlog))
        if _stuck(policy, replicas, demand):
            needed = max(needed, replicas + 1)
    return max(needed, 1)


def _stuck(policy: Policy, replicas: int, demand: ObservedDemand) -> bool:
    """Whether full replicas leave a long queue waiting beyond the goal, whatever was planned."""
    deep = demand.queued > policy.target_queue_depth * replicas
    full = demand.running >= policy.slots * replicas
    return deep and full and demand.oldest_wait_s > wait_goal_s(policy)


def _decide_up(
    policy: Policy, replicas: int, needed: int, demand: ObservedDemand, state: ScaleState
) -> ScaleDecision:
    wanted = max(min(needed, policy.max_replicas), policy.min_replicas)
    state = replace(state, surplus_since=None, surplus_peak=0, raised=None)
    if needed > policy.max_replicas:
        message = f"The requests want more than maxReplicas {policy.max_replicas}."
        return ScaleDecision(wanted, Reason.AT_MAX_REPLICAS, message, state)
    depth = policy.target_queue_depth
    if replicas == 0:
        reason, message = Reason.DEMAND_AT_ZERO, f"Requests wait and nothing runs: 0 → {wanted}."
    elif demand.queued > depth * replicas:
        reason = Reason.QUEUE_DEPTH
        message = f"More than targetQueueDepth {depth} wait per replica: {replicas} → {wanted}."
    else:
        reason = Reason.ARRIVAL_RATE
        message = f"More arrives than {replicas} end within the wait goal: {replicas} → {wanted}."
    return ScaleDecision(wanted, reason, message, replace(state, raised=(reason, message)))


def _decide_blind(policy: Policy, replicas: int, state: ScaleState) -> ScaleDecision:
    held = min(max(replicas, policy.min_replicas), policy.max_replicas)
    message = f"Not every gateway reports yet: {held} held, nothing is scaled down on a guess."
    return ScaleDecision(held, Reason.DEMAND_UNKNOWN, message, _settled(state))


def _settled(state: ScaleState) -> ScaleState:
    """No surplus is being watched."""
    if state.surplus_since is None and state.raised is None:
        return state
    return replace(state, surplus_since=None, surplus_peak=0, raised=None)


def _decide_down(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState, now: float
) -> ScaleDecision:
    if demand.queued:
        reason, message = state.raised or (Reason.BUSY, "Requests wait; the replicas suffice.")
        return ScaleDecision(
            replicas, reason, message, replace(_settled(state), raised=state.raised)
        )
    if replicas <= policy.min_replicas:
        return _decide_at_rest(policy, replicas, state, now)
    return _decide_idle(policy, replicas, demand, state, now)


def _decide_at_rest(policy: Policy, replicas: int, state: ScaleState, now: float) -> ScaleDecision:
    """Nobody asks and no more than the minimum runs: all that may come is an expected request."""
    state = _settled(state)
    due = _expected(policy, state) if replicas == 0 else None
    if due is None or now >= due[1]:
        return ScaleDecision(replicas, Reason.STEADY, "Nobody asks.", state)
    if now < due[0]:
        return ScaleDecision(replicas, Reason.STEADY, "Nobody asks.", state, due[0])
    message = "Requests come at regular intervals and the next one is due: 0 → 1."
    return ScaleDecision(1, Reason.REQUEST_EXPECTED, message, state, due[1])


def _expected(policy: Policy, state: ScaleState) -> tuple[float, float] | None:
    """From when a replica is started for the next request, and until when it is waited for.

    Not where one is parked: that wake is too short to be worth a wait.
    """
    gaps = state.history.gaps
    due = gaps.expected_s(policy.cold_start_s)
    if due is None or gaps.idle_at is None or policy.first_wake_s is not None:
        return None
    lead_s = max(1.2 * policy.cold_start_s, policy.late_start_s)
    return gaps.idle_at + due[0] - lead_s, gaps.idle_at + due[1]


def _decide_idle(
    policy: Policy, replicas: int, demand: ObservedDemand, state: ScaleState, now: float
) -> ScaleDecision:
    due = _expected(policy, state) if policy.min_replicas == 0 else None
    if due is not None and due[0] <= now < due[1]:
        message = "Requests come at regular intervals and the next one is due."
        return ScaleDecision(replicas, Reason.REQUEST_EXPECTED, message, _settled(state), due[1])
    awake_s, reason = _awake(policy, state)
    if replicas > 1:
        awake_s = max(awake_s, _hold_s(policy))
    idle_until = demand.active_at + awake_s
    if now >= idle_until:
        if reason == Reason.IDLE_TIMEOUT:
            message = f"No request for idleTimeout {policy.idle_timeout_s:g}s."
        else:
            message = f"No request for {awake_s:g}s; by past gaps, waking costs less than waiting."
        wake_at = due[0] if due is not None and now < due[0] else None
        return ScaleDecision(policy.min_replicas, reason, message, _settled(state), wake_at)
    shed = _shed_surplus(policy, replicas, 0, state, now)
    message = f"Idle; {policy.min_replicas} wanted after idleTimeout without requests."
    wake_at = min(idle_until, shed.wake_at or idle_until)
    return ScaleDecision(shed.replicas, Reason.IDLE_WINDOW, message, shed.state, wake_at)


def _awake(policy: Policy, state: ScaleState) -> tuple[float, Reason]:
    """How long idle replicas stay, and the reason for which they go."""
    history = state.history
    best_s = history.gaps.keep_awake_s(policy.wake_s, history.wakes.price(policy.miss_price))
    if best_s is None:
        return policy.idle_timeout_s, Reason.IDLE_TIMEOUT
    if _wakes_in_time(policy):
        best_s = wait_goal_s(policy)  # who calls again at once finds the replica and its cache
    elif _expected(policy, state) is not None:
        best_s = PROMPT_DOWN_S
    else:
        best_s = max(best_s, SHORTEST_AWAKE_S)
    if best_s >= policy.idle_timeout_s:
        return policy.idle_timeout_s, Reason.IDLE_TIMEOUT
    return best_s, Reason.IDLE_COST


def _shed_surplus(
    policy: Policy, replicas: int, needed: int, state: ScaleState, now: float
) -> ScaleDecision:
    """Take away what was not needed for a while, down to the most needed in that time."""
    keep = max(needed, policy.min_replicas, 1)
    if keep >= replicas:
        message = "Requests run; every replica is needed."
        return ScaleDecision(replicas, Reason.BUSY, message, _settled(state))
    hold_s = policy.idle_timeout_s if state.planned is None else _hold_s(policy)
    since, peak = state.surplus_since, max(keep, state.surplus_peak)
    if since is None or peak >= replicas:
        since, peak = now, keep
    until = since + hold_s
    if now >= until and peak >= (1 - TOLERANCE) * replicas:
        since, peak, until = now, keep, now + hold_s
    if now < until:
        message = "Fewer replicas would do, but not yet for long enough."
        state = replace(state, surplus_since=since, surplus_peak=peak, raised=None)
        return ScaleDecision(replicas, Reason.BUSY, message, state, until)
    message = f"{peak} sufficed for {hold_s:g}s: {replicas} → {peak}."
    state = replace(state, surplus_since=now, surplus_peak=keep, raised=None)
    return ScaleDecision(peak, Reason.IDLE_WINDOW, message, state)


def _hold_s(policy: Policy) -> float:
    """How long a surplus is kept: as long as a request that misses it is worth (ski rental)."""
    return min(policy.idle_timeout_s, max(policy.miss_price * policy.cold_start_s, SHORTEST_HOLD_S))


def _bounded(policy: Policy, decision: ScaleDecision) -> ScaleDecision:
    low, high = policy.min_replicas, policy.max_replicas
    if decision.replicas < low:
        message = f"minReplicas is {low}."
        return ScaleDecision(low, Reason.AT_MIN_REPLICAS, message, decision.state)
    if decision.replicas > high:
        message = f"maxReplicas is {high}."
        return ScaleDecision(high, Reason.AT_MAX_REPLICAS, message, decision.state)
    return decision
