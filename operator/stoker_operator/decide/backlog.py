"""How many replicas a queue is worth, counted once: those that start already are on their way.

Knows the queue, its age and the rates; does not know what replicas are held for. A burst is taken
to last as long again as it has lasted, at most a cold start (the estimate without a memory, after
Lindy), so a clump of requests orders nothing that would come too late to help, and a burst out of
silence is met while its own wake still runs.
"""

from __future__ import annotations

import math

from stoker_operator.decide.observed import ObservedDemand, Policy

WAIT_GOAL_S = 2.0
"""Seconds to the first token that are aimed at where no calibration says otherwise."""


def wait_goal_s(policy: Policy) -> float:
    """Seconds to the first token that are aimed at."""
    return policy.model.wait_goal_s if policy.model is not None else WAIT_GOAL_S


def size_backlog(
    policy: Policy, demand: ObservedDemand, replicas: int, arriving: float, served: float
) -> float:
    """Replicas wanted in a cold start from now; 0 where those there are clear the queue by then.

    `arriving` and `served` are requests a second, in all and by one full replica. n replicas clear
    what is left in left / (n·served - arriving) seconds, and who comes meanwhile misses the goal.
    A miss is worth p = `miss_price` cold starts, one more replica its start and its hold, 1 + p.
    The sum is least at n·served = arriving + √(p / (1 + p) · arriving · left · served); nobody
    needs it faster than the goal. Example: 250 wait, 10 come and 11 are served a second: √ says
    144, the goal of 2 s says 125, so (10 + 125) / 11 = 12 replicas.
    """
    cold_s = policy.cold_start_s
    lasted_s = min(cold_s, demand.oldest_wait_s)
    ready = min(replicas, -(-demand.running // policy.slots))
    done = served * (ready * cold_s + (replicas - ready) * lasted_s)
    left = demand.queued + arriving * lasted_s - done
    if left <= 0:
        return 0.0
    price = policy.miss_price / (1 + policy.miss_price)
    worth = math.sqrt(price * arriving * left * served)
    return (arriving + min(worth, left / wait_goal_s(policy))) / served
