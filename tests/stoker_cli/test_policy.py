"""The adapter of the outside bench: its lines in, answers of the real autoscaler out."""

from __future__ import annotations

import json
from typing import Any

from stoker_cli.policy import answer_lines

HELLO = {
    "type": "hello",
    "profile": {
        "max_seqs": 32,
        "prefill_tps": 16000,
        "decode_base_s": 0.008,
        "decode_per_seq": 0.00025,
        "chunk_tokens": 512,
        "cold_start_s": 25,
        "warm_activate_s": 1,
    },
    "slo": {"ttft_s": 2, "tpot_s": 0.05},
    "tick_s": 1,
    "max_replicas": 64,
}


def _tick(at: float, queued: int = 0, running: int = 0, **more: Any) -> dict[str, Any]:
    counts = {
        "arrivals_since_last": 0,
        "arrived_input_tokens_since_last": 0,
        "completions_since_last": 0,
        "completed_output_tokens_since_last": 0,
        "oldest_wait_s": 0.0,
    }
    return {"type": "tick", "t": at, "queued": queued, "running": running} | counts | more


def _answers(*ticks: dict[str, Any], parked: int = 0) -> list[dict[str, int]]:
    lines = [json.dumps(message) for message in (HELLO, *ticks, {"type": "end"}, {"type": "no"})]
    return [json.loads(line) for line in answer_lines(lines, parked)]


def test_a_request_at_zero_is_answered_with_a_replica() -> None:
    poke = _tick(3.2, 1, arrivals_since_last=1, arrived_input_tokens_since_last=300)
    wanted = [answer["desired_replicas"] for answer in _answers(_tick(1), poke, _tick(4, 1))]
    assert wanted == [0, 1, 1]


def test_a_burst_asks_for_enough_at_once_and_never_for_more_while_it_starts() -> None:
    burst = _tick(2, 300, arrivals_since_last=300, arrived_input_tokens_since_last=300000)
    wanted = [answer["desired_replicas"] for answer in _answers(_tick(1), burst, _tick(3, 300))]
    assert wanted[1] >= 4
    assert wanted[2] <= wanted[1]


def test_a_parked_replica_waits_while_none_serves() -> None:
    one = _tick(2, 1, arrivals_since_last=1, arrived_input_tokens_since_last=300)
    answers = _answers(_tick(1), one, parked=1)
    assert answers == [
        {"desired_replicas": 0, "warm_replicas": 1},
        {"desired_replicas": 1, "warm_replicas": 0},
    ]
