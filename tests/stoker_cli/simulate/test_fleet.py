"""Replicas start, serve, drain, and every second of them is paid for once."""

from __future__ import annotations

from stoker_cli.simulate.fleet import Fleet
from stoker_operator.decide.replica import ReplicaModel

MODEL = ReplicaModel(prefill_tokens_s=1000, step_s=0.01, step_per_seq_s=0.001, chunk_tokens=512)


def _fleet() -> Fleet:
    return Fleet(MODEL, slots=2, cold_start_s=10)


def test_a_replica_takes_requests_only_once_it_is_ready_and_only_so_many() -> None:
    fleet = _fleet()
    fleet.resize(1, 0.0)
    assert fleet.place(100, 10, 5.0) is None
    assert fleet.count(5.0) == (0, 1)
    first = fleet.place(100, 10, 10.0)
    second = fleet.place(100, 10, 10.0)
    assert first is not None
    assert second is not None
    assert 10 < first.first_at < second.first_at < second.end_at
    assert fleet.place(100, 10, 10.0) is None


def test_what_is_taken_away_drains_first_and_starting_ones_go_before_ready_ones() -> None:
    fleet = _fleet()
    fleet.resize(1, 0.0)
    served = fleet.place(100, 10, 10.0)
    assert served is not None
    fleet.resize(2, 10.0)
    fleet.resize(1, 11.0)
    assert fleet.count(11.0) == (1, 0)
    fleet.resize(0, 12.0)
    assert len(fleet.replicas) == 1
    served.replica.running -= 1
    fleet.sweep()
    assert fleet.replicas == []
    assert fleet.starts == 2


def test_every_second_is_starting_busy_or_idle() -> None:
    fleet = _fleet()
    fleet.resize(1, 0.0)
    fleet.advance(15.0)
    fleet.place(100, 10, 15.0)
    fleet.advance(18.0)
    spent = fleet.spent
    assert (spent.starting, spent.idle, spent.busy, spent.total) == (10, 5, 3, 18)
