"""When to touch a pod that its node seems to have put aside.

A kubelet may hear of a pod before the API server's node authoriser has: its question for the pod's
claim is refused ("no relationship found between node and this object"), and it tries again only 10
to 15 s later. Any change of the pod's object makes it try at once. Knows seconds and counts; does
not know pods.
"""

from __future__ import annotations

NUDGE_AFTER_S = (1.0, 2.5, 5.0)
"""Seconds on a node without a sign of life after which the pod is touched, one by one.

A container that starts in the ordinary way shows itself after 0.3 to 0.9 s; a pull or a slow volume
costs three small writes that change nothing.
"""


def is_nudge_due(silent_s: float, num_nudges: int) -> bool:
    """Whether a pod that was silent so long and touched so often should be touched now."""
    return num_nudges < len(NUDGE_AFTER_S) and silent_s >= NUDGE_AFTER_S[num_nudges]


def next_nudge_in(silent_s: float, num_nudges: int) -> float | None:
    """Seconds until the next touch; None after the last."""
    if num_nudges >= len(NUDGE_AFTER_S):
        return None
    return max(0.0, NUDGE_AFTER_S[num_nudges] - silent_s)
