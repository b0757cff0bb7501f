"""The books of demand: sums, leases, and what silence means."""

from __future__ import annotations

from stoker_api.demand import Demand
from stoker_operator.cluster.ledger import DemandLedger, DemandSum, Worker

ONE: Worker = ("10.0.0.1", 8090)
TWO: Worker = ("10.0.0.2", 8090)
KEY = "ns/chat"


def _demand(queued: int = 0, running: int = 0, idle_s: float = 0, **more: object) -> Demand:
    fields = {"deployment": KEY, "queued": queued, "running": running, "idle_s": idle_s}
    return Demand.model_validate(fields | {"arrivals": 1} | more)


def _ledger(*workers: Worker, now: float = 100) -> DemandLedger:
    ledger = DemandLedger(now, lease_s=10)
    ledger.expect({ONE, TWO}, now)
    for worker in workers:
        ledger.connect(worker, now)
        ledger.introduce(worker)
    return ledger


def _total(ledger: DemandLedger, now: float) -> DemandSum:
    return ledger.total(KEY, now)


def test_sums_over_workers() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(2, 3, pods={"a": 2, "b": 1}, oldest_wait_s=4), 100)
    ledger.record(TWO, _demand(1, 1, pods={"a": 1}, oldest_wait_s=1), 101)
    total = _total(ledger, 101)
    assert (total.queued, total.running, total.pods) == (3, 4, {"a": 3, "b": 1})
    assert total.oldest_at == 96
    assert total.known
    assert total.active_at == 101


def test_tokens_are_summed_too() -> None:
    ledger = _ledger(ONE, TWO)
    counts = {"queued_tokens": 10, "arrived_tokens": 200, "completed_tokens": 30}
    ledger.record(ONE, _demand(1, **counts), 100)
    ledger.record(TWO, _demand(1, **counts), 100)
    total = _total(ledger, 101)
    assert total.queued_tokens == 20
    assert (total.arrived_tokens, total.completed_tokens) == (400, 60)


def test_a_report_replaces_the_one_before() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(5), 100)
    ledger.record(ONE, _demand(0, idle_s=2), 105)
    assert _total(ledger, 105).queued == 0


def test_activity_is_an_age_and_the_latest_of_all_counts() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(idle_s=30), 100)
    ledger.record(TWO, _demand(idle_s=5), 100)
    assert _total(ledger, 100).active_at == 95
    assert _total(ledger, 160).active_at == 95


def test_a_long_answer_is_activity_all_the_time() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(0, 1, idle_s=0), 100)
    assert _total(ledger, 700).active_at == 700


def test_never_asked_counts_from_when_listening_began() -> None:
    assert _total(_ledger(ONE, TWO), 500).active_at == 100


def test_what_a_lost_worker_said_counts_for_its_lease_and_its_age_for_good() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(2, 1), 100)
    ledger.disconnect(ONE, 102)
    held = _total(ledger, 111)
    assert (held.queued, held.running) == (2, 1)
    assert held.changes_at is not None
    assert 112 <= held.changes_at < 112.1
    expired = _total(ledger, 112.5)
    assert (expired.queued, expired.running) == (0, 0)
    assert expired.active_at == 112


def test_a_reconnected_worker_may_take_back_what_it_said() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(2), 100)
    ledger.connect(ONE, 101)
    assert _total(ledger, 102).queued == 2
    ledger.record(ONE, _demand(1), 102)
    assert _total(ledger, 200).queued == 1


def test_nothing_is_known_before_every_worker_has_reported_or_had_its_time() -> None:
    ledger = _ledger(ONE)
    waiting = _total(ledger, 105)
    assert not waiting.known
    assert waiting.changes_at is not None
    assert 110 <= waiting.changes_at < 110.1
    assert _total(ledger, 111).known


def test_nothing_is_known_without_any_gateway_and_then_it_is_deaf() -> None:
    ledger = _ledger()
    assert not _total(ledger, 105).deaf
    assert _total(ledger, 111).deaf
    assert not _total(ledger, 111).known
    ledger.connect(ONE, 112)
    assert not _total(ledger, 112).deaf


def test_a_worker_that_is_gone_is_not_waited_for() -> None:
    ledger = _ledger(ONE)
    ledger.expect({ONE}, 101)
    assert _total(ledger, 101).known
    assert ledger.num_connected == 1


def _arrived(ledger: DemandLedger, now: float = 200) -> int:
    return sum(requests for _, requests, *_ in ledger.arrivals.rows(KEY, now))


def test_the_record_counts_what_came_since_and_not_what_was_before() -> None:
    ledger = DemandLedger(100, lease_s=10)
    ledger.expect({ONE}, 100)
    ledger.connect(ONE, 100)
    ledger.record(ONE, _demand(arrivals=1000, arrived_tokens=9000), 100)
    ledger.introduce(ONE)
    assert _arrived(ledger) == 0
    ledger.record(ONE, _demand(arrivals=1003, arrived_tokens=9030, completed_tokens=5), 130)
    assert ledger.arrivals.rows(KEY, 130) == [(2, 3, 3, 30, 5)]


def test_a_deployment_that_a_known_worker_names_first_is_new() -> None:
    ledger = _ledger(ONE)
    ledger.record(ONE, _demand(arrivals=2), 100)
    assert _arrived(ledger) == 2


def test_a_stream_that_breaks_and_comes_back_counts_nothing_twice() -> None:
    ledger = _ledger(ONE)
    ledger.record(ONE, _demand(arrivals=2), 100)
    ledger.disconnect(ONE, 101)
    _total(ledger, 150)
    ledger.connect(ONE, 150)
    ledger.record(ONE, _demand(arrivals=5), 150)
    assert _arrived(ledger) == 5


def test_a_worker_that_begins_anew_counts_from_zero() -> None:
    ledger = _ledger(ONE)
    ledger.record(ONE, _demand(arrivals=7), 100)
    ledger.record(ONE, _demand(arrivals=2), 110)
    assert _arrived(ledger) == 9
    ledger.expect({TWO}, 120)
    ledger.expect({ONE, TWO}, 121)
    ledger.record(ONE, _demand(arrivals=50), 122)
    assert _arrived(ledger) == 9


def test_a_deployment_that_is_gone_is_forgotten() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(2, idle_s=0), 200)
    assert _total(ledger, 200).queued == 2
    ledger.forget(KEY)
    assert _total(ledger, 201).queued == 0
    assert _total(ledger, 201).active_at == 100


def test_tells_for_which_deployments_somebody_waits() -> None:
    ledger = _ledger(ONE, TWO)
    ledger.record(ONE, _demand(0, 2), 100)
    assert ledger.held() == []
    ledger.record(TWO, _demand(1), 100)
    ledger.record(TWO, _demand(0, deployment="ns/other"), 100)
    assert ledger.held() == [KEY]
