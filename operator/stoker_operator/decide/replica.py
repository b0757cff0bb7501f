"""How fast one replica is: the figures that a calibration of model and GPU gives.

Knows the figures; does not know who measured them nor what follows (`capacity` does).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaModel:
    """What calibration says of one replica."""

    prefill_tokens_s: float
    """Prompt tokens a second."""
    step_s: float
    """Seconds of a decode step without sequences."""
    step_per_seq_s: float
    """Seconds more for each sequence in the step."""
    chunk_tokens: int
    """Prompt tokens that one step may carry."""
    wait_goal_s: float = 2.0
    """Seconds to the first token."""
    token_goal_s: float = 0.05
    """Seconds between tokens."""
