"""How many requests a second one replica carries within the wait goal.

Knows a replica's speed and the sizes of requests; does not know how many there are. A calibrated
replica is taken as a queue with general service times: a prompt is served for its tokens divided by
the prefill speed, and the mean wait behind others follows Pollaczek and Khinchine,
λ·E[s²] / (2·(1 − λ·E[s])). Long prompts that vary a hundredfold so get the room that their
variance asks for, which requests in flight do not show.
"""

from __future__ import annotations

import math

from stoker_operator.decide.history import Sizes
from stoker_operator.decide.replica import ReplicaModel

WAIT_SHARE = 0.5
"""Mean wait of one queue as a share of the goal. Waits fall off about exponentially, and requests
go to the emptiest replica, so that few of those who wait at all reach the goal."""
USED_SHARE = 0.8
"""Share of the slots, and of a measured service rate, that is planned with."""
SLOWEST_PER_S, FASTEST_PER_S = 1e-3, 1e3
"""Rates between which the answer is searched."""
STEPS = 14
"""Halvings of the logarithm: 10⁶ to the power of 2⁻¹⁴ is less than 0.1 %."""
STEP_SHARE = 0.85
"""Share of the goal for a token's time that is planned with."""


def plan_rate_per_s(model: ReplicaModel, sizes: Sizes, output_tokens: float, slots: int) -> float:
    """Requests a second that one replica carries within the goals."""
    low, high = SLOWEST_PER_S, FASTEST_PER_S
    for _ in range(STEPS):
        rate = math.sqrt(low * high)
        if _carries(model, sizes, output_tokens, slots, rate):
            low = rate
        else:
            high = rate
    return low


def full_rate_per_s(model: ReplicaModel, sizes: Sizes, output_tokens: float, slots: int) -> float:
    """Requests a second that one replica ends while a queue keeps its slots full.

    Each takes the steps of its prompt or its share of the steps of answers, whichever are more.
    Long prompts leave several times the rate that their wait goal allows: a backlog is cleared by
    fewer replicas than hold the goal.
    """
    steps = max(1.0, sizes.mean_tokens / model.chunk_tokens, output_tokens / slots)
    step_s = model.step_s + model.step_per_seq_s * output_tokens / steps
    return 1 / (sizes.mean_tokens / model.prefill_tokens_s + steps * step_s)


def _carries(
    model: ReplicaModel, sizes: Sizes, output_tokens: float, slots: int, rate: float
) -> bool:
    """Whether the goals hold at this rate. Where a prompt alone takes longer than the goal, nobody
    can be quicker, and it may wait as long as it takes: more replicas would not help it.
    """
    used = rate * sizes.mean_tokens / model.prefill_tokens_s
    left = 1 - used - rate * output_tokens * model.step_per_seq_s
    if left <= 0:
        return False
    seqs = rate * output_tokens * model.step_s / left
    step_s = model.step_s + model.step_per_seq_s * seqs
    if seqs > USED_SHARE * slots or step_s / (1 - used) > STEP_SHARE * model.token_goal_s:
        return False
    chunks = max(1.0, sizes.mean_tokens / model.chunk_tokens)
    served_s = sizes.mean_tokens / model.prefill_tokens_s + chunks * step_s
    goal_s = max(model.wait_goal_s, served_s)
    busy = rate * served_s
    square = served_s**2 * (1 + sizes.variation)
    wait_s = rate * square / (2 * (1 - busy)) if busy < 1 else goal_s
    return wait_s <= WAIT_SHARE * goal_s
