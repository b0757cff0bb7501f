"""How many standbys: what they cost against what they save, between the bounds, with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.status import PoolSizing
from stoker_operator.decide.pool_size import (
    GUESSED_REFILL_S,
    LOOK_S,
    MEMORY_S,
    PoolPolicy,
    WakeHistory,
    decide_pool_size,
    derive_loss,
    recall_wakes,
    record_wakes,
)

GPU = PoolPolicy(least=1, most=5, share=1.0)
CPU = PoolPolicy(least=1, most=5, share=0.1)
NOW = 10_000.0


def _busy(per_hour: float, saved_s: float = 20.0, refill_s: float = 30.0) -> WakeHistory:
    """As after a long time of so many wakes an hour."""
    wakes = per_hour / 3600 * MEMORY_S
    return WakeHistory(NOW, wakes, wakes * saved_s, (refill_s,))


def _size(policy: PoolPolicy, history: WakeHistory, present: int = 0) -> PoolSizing:
    return decide_pool_size(policy, history, present, NOW)


@pytest.mark.parametrize(("size", "load", "loss"), [(0, 1, 1), (1, 1, 0.5), (2, 1, 0.2)])
def test_erlangs_formula_as_in_the_textbooks(size: int, load: float, loss: float) -> None:
    assert derive_loss(size, load) == pytest.approx(loss)


def test_a_quiet_pool_keeps_the_minimum() -> None:
    sizing = _size(GPU, WakeHistory(NOW))
    assert (sizing.desired, sizing.reason) == (1, "PoolMinimum")
    assert sizing.refill_seconds is None


def test_a_busy_hour_is_worth_more_standbys() -> None:
    sizing = _size(GPU, _busy(per_hour=300))
    assert (sizing.desired, sizing.reason) == (2, "WakeRate")
    assert sizing.message == "300.0 wakes an hour, 30 s to refill: 2 standbys cost least."
    assert (sizing.wakes_per_hour, sizing.refill_seconds) == (300.0, 30.0)


def test_where_standbys_block_memory_alone_more_are_kept() -> None:
    assert _size(CPU, _busy(60)).desired > _size(GPU, _busy(60)).desired


def test_the_maximum_is_said_to_be_one() -> None:
    sizing = _size(GPU, _busy(per_hour=3600))
    assert (sizing.desired, sizing.reason) == (5, "PoolMaximum")
    assert "would pay for more" in sizing.message


def test_the_maximum_that_suffices_is_no_complaint() -> None:
    assert _size(PoolPolicy(1, 3, 1.0), _busy(per_hour=300)).reason == "WakeRate"


def test_no_standby_at_all_where_nothing_wakes_and_none_need_wait() -> None:
    assert _size(PoolPolicy(0, 3, 1.0), WakeHistory(NOW)).desired == 0


def test_wakes_that_a_standby_does_not_shorten_are_worth_none() -> None:
    assert _size(GPU, _busy(per_hour=600, saved_s=0)).desired == 1


def test_a_size_that_is_hardly_dearer_stays() -> None:
    per_hour = next(n for n in range(1, 4000) if _size(GPU, _busy(n)).desired == 2)
    assert _size(GPU, _busy(per_hour), present=1).desired == 1
    assert _size(GPU, _busy(per_hour - 1), present=2).desired == 2
    assert _size(GPU, _busy(per_hour * 3), present=1).desired > 1


def test_wakes_are_forgotten_by_and_by() -> None:
    history = WakeHistory(NOW).with_wakes(300, 20.0, NOW).with_refill(30.0)
    assert decide_pool_size(GPU, history, 1, NOW).desired > 1
    later = NOW + 4 * MEMORY_S
    assert history.decayed(later).wakes == pytest.approx(300 * 0.0183, rel=0.01)
    assert decide_pool_size(GPU, history, 5, later).desired == 1
    assert LOOK_S < MEMORY_S


def test_a_clock_that_goes_back_forgets_nothing_and_counts_nothing_twice() -> None:
    history = WakeHistory(NOW).with_wakes(3, 1.0, NOW).with_wakes(1, 1.0, NOW - 50)
    assert (history.wakes, history.at) == (4, NOW)


def test_a_refill_is_the_median_of_the_latest() -> None:
    history = WakeHistory(NOW)
    assert history.refill_s == GUESSED_REFILL_S
    for seconds in (1.0, 9.0, 3.0):
        history = history.with_refill(seconds)
    assert history.refill_s == 3.0
    for _ in range(20):
        history = history.with_refill(7.0)
    assert history.refill_s == 7.0
    assert len(history.refills_s) == 15


def test_a_restart_goes_on_from_what_the_status_kept() -> None:
    history = _busy(per_hour=300, saved_s=3.0).with_refill(7.0)
    kept = record_wakes(history)
    assert kept is not None
    assert recall_wakes(kept, NOW) == history
    later = NOW + MEMORY_S
    for at, recalled in ((NOW, history), (later, history.decayed(later))):
        again = decide_pool_size(CPU, recall_wakes(kept, NOW), 1, at)
        assert again == decide_pool_size(CPU, recalled, 1, at)


def test_what_is_kept_changes_with_what_happens_and_not_with_time() -> None:
    assert record_wakes(WakeHistory(NOW)) is None
    history = WakeHistory(NOW)
    for number in range(100):
        history = history.with_wakes(1, 1 / 3, NOW + number).with_refill(number / 3)
    kept = record_wakes(history)
    assert kept is not None
    assert record_wakes(recall_wakes(kept, history.at)) == kept
    assert len(kept.refills) == 15


rates = st.floats(0, 5000)


@given(rates, st.floats(0, 300), st.floats(0.1, 300), st.integers(0, 4), st.integers(0, 4))
def test_bounds_are_always_held(
    per_hour: float, saved_s: float, refill_s: float, least: int, more: int
) -> None:
    policy = PoolPolicy(least, least + more, 1.0)
    sizing = _size(policy, _busy(per_hour, saved_s, refill_s))
    assert least <= sizing.desired <= least + more
    assert sizing.message


@given(rates, rates)
def test_more_wakes_never_mean_fewer_standbys(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _size(GPU, _busy(low)).desired <= _size(GPU, _busy(high)).desired


@given(st.integers(0, 50), st.floats(0, 50))
def test_a_further_standby_never_loses_more(size: int, load: float) -> None:
    assert 0 <= derive_loss(size + 1, load) <= derive_loss(size, load) <= 1
