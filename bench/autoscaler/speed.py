"""How long the autoscaler thinks: a thousand deployments at different loads, decided in one go.

Knows only `decide_scale`. Prints the processor time of the quickest and of the median round.
"""

from __future__ import annotations

import statistics
import time

from stoker_operator.decide.autoscaler import ScaleState, decide_scale
from stoker_operator.decide.observed import ObservedDemand, Policy
from stoker_operator.decide.replica import ReplicaModel

DEPLOYMENTS, ROUNDS = 1000, 40
MODEL = ReplicaModel(prefill_tokens_s=16000, step_s=0.008, step_per_seq_s=0.00025, chunk_tokens=512)


def _demand(index: int, now: float) -> ObservedDemand:
    arrivals = int(now) * (index % 20)
    return ObservedDemand(
        known=True,
        running=index % 30,
        active_at=now,
        arrivals=arrivals,
        arrived_tokens=arrivals * 500,
        completed_tokens=arrivals * 90,
    )


def measure(policy: Policy) -> list[float]:
    """Processor seconds of each round."""
    states, replicas = [ScaleState()] * DEPLOYMENTS, [0] * DEPLOYMENTS
    seconds = []
    for now in range(ROUNDS):
        demands = [_demand(index, float(now)) for index in range(DEPLOYMENTS)]
        began = time.process_time()
        for index, demand in enumerate(demands):
            decision = decide_scale(policy, replicas[index], demand, states[index], float(now))
            replicas[index], states[index] = decision.replicas, decision.state
        seconds.append(time.process_time() - began)
    return seconds


if __name__ == "__main__":
    for name, model in (("not calibrated", None), ("calibrated", MODEL)):
        rounds = measure(Policy(max_replicas=50, cold_start_s=25, model=model))
        best, middle = min(rounds), statistics.median(rounds)
        print(f"{name}: {1e3 * best:.1f} ms at best, {1e3 * middle:.1f} ms in the middle")
