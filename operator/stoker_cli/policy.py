"""`python -m stoker_cli.policy`: the autoscaler behind the outside bench's JSON lines.

Knows the bench's protocol and how its figures become an `ObservedDemand`; decides nothing itself:
`decide_scale` does, unchanged. One hello, then an answer for each tick, until `end`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stoker_operator.decide.autoscaler import ScaleState, decide_scale
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.replica import ReplicaModel

IDLE_TIMEOUT_S = 600.0
"""The upper bound that a user would set in the bench's place."""


@dataclass(slots=True)
class Bench:
    """One run: the policy that the hello gives, and the totals that the ticks add up to."""

    policy: Policy
    parked: int = 0
    """Replicas that may be parked instead of deleted."""
    replicas: int = 0
    state: ScaleState = field(default_factory=ScaleState)
    arrivals: int = 0
    arrived_tokens: int = 0
    completed_tokens: int = 0
    active_at: float = 0.0

    def answer(self, tick: dict[str, Any]) -> dict[str, int]:
        """The replicas wanted after this tick."""
        now = float(tick["t"])
        self.arrivals += tick["arrivals_since_last"]
        self.arrived_tokens += tick["arrived_input_tokens_since_last"]
        self.completed_tokens += tick["completed_output_tokens_since_last"]
        if tick["queued"] + tick["running"] or tick["completions_since_last"]:
            self.active_at = now
        demand = ObservedDemand(
            known=True,
            queued=tick["queued"],
            running=tick["running"],
            active_at=self.active_at,
            oldest_wait_s=tick["oldest_wait_s"],
            arrivals=self.arrivals,
            arrived_tokens=self.arrived_tokens,
            completed_tokens=self.completed_tokens,
        )
        decision = decide_scale(self.policy, self.replicas, demand, self.state, now)
        self.replicas, self.state = decision.replicas, decision.state
        wanted = {"desired_replicas": decision.replicas}
        if self.parked:
            wanted["warm_replicas"] = max(0, self.parked - decision.replicas)
        return wanted


def derive_bench(hello: dict[str, Any], parked: int = 0) -> Bench:
    """A run under the bench's profile: its replica model is what calibration would give."""
    profile, slo = hello["profile"], hello["slo"]
    model = ReplicaModel(
        prefill_tokens_s=profile["prefill_tps"],
        step_s=profile["decode_base_s"],
        step_per_seq_s=profile["decode_per_seq"],
        chunk_tokens=profile["chunk_tokens"],
        wait_goal_s=slo["ttft_s"],
        token_goal_s=slo["tpot_s"],
    )
    policy = Policy(
        max_replicas=hello["max_replicas"],
        idle_timeout_s=IDLE_TIMEOUT_S,
        slots=profile["max_seqs"],
        cold_start_s=profile["cold_start_s"],
        first_wake_s=profile["warm_activate_s"] if parked else None,
        model=model,
    )
    return Bench(policy, parked)


def answer_lines(lines: Iterable[str], parked: int = 0) -> Iterator[str]:
    """One answer per tick."""
    bench: Bench | None = None
    for line in lines:
        message = json.loads(line)
        if message["type"] == "hello":
            bench = derive_bench(message, parked)
        elif message["type"] == "tick" and bench is not None:
            yield json.dumps(bench.answer(message))
        elif message["type"] == "end":
            return


def main() -> None:
    """Speak the protocol on stdin and stdout; `--park` parks the last replica."""
    for answer in answer_lines(sys.stdin, parked=1 if "--park" in sys.argv[1:] else 0):
        print(answer, flush=True)


if __name__ == "__main__":
    main()
