"""What a wake cost, and what the next one is taken to cost."""

from __future__ import annotations

import pytest

from stoker_operator.decide.coldstart import (
    REMEMBERED,
    ColdStartHistory,
    derive_cold_start,
    estimate_cold_start_s,
    recall_cold_starts,
    record_cold_starts,
)


@pytest.mark.parametrize(
    ("model", "seconds"),
    [
        ("hf://org/Qwen2.5-0.5B-Instruct", 15),
        ("hf://HuggingFaceTB/SmolLM2-135M", 15),
        ("hf://org/Mistral-7B-v0.3", 15),
        ("pvc://models/llama-3.1-8b", 25),
        ("hf://org/Llama-2-13b-hf", 25),
        ("hf://org/Llama-3.3-70B-Instruct@abc", 60),
        ("hf://org/Llama-3.1-405B", 30),
        ("pvc://models/tiny-chat", 30),
    ],
)
def test_guesses_by_the_size_in_the_name(model: str, seconds: float) -> None:
    assert estimate_cold_start_s(ColdStartHistory(), model) == seconds


def test_what_was_measured_replaces_the_guess() -> None:
    history = ColdStartHistory()
    for total in (9.0, 2.0, 3.0):
        history = history.with_total(total)
    assert estimate_cold_start_s(history, "hf://org/Llama-70B") == 3.0


def test_forgets_wakes_of_long_ago() -> None:
    history = ColdStartHistory()
    for total in range(REMEMBERED + 5):
        history = history.with_total(float(total))
    assert len(history.totals_s) == REMEMBERED
    assert history.totals_s[0] == 5.0


def test_each_phase_lasts_from_the_end_of_the_one_before() -> None:
    instants = {
        "decided": 100.01,
        "scheduled": 100.03,
        "container": 100.5,
        "imports": 101.8,
        "weights": 102.0,
        "firstToken": 102.2,
    }
    cold = derive_cold_start(100.0, instants)
    assert cold.total == 2.2
    assert cold.path == "fresh"
    assert cold.phases.model_dump(exclude_none=True) == {
        "decided": 0.01,
        "scheduled": 0.02,
        "container": 0.47,
        "imports": 1.3,
        "weights": 0.2,
        "first_token": 0.2,
    }


def test_a_clock_that_is_behind_makes_no_phase_negative() -> None:
    cold = derive_cold_start(100.0, {"decided": 100.2, "container": 100.1, "weights": 101.0})
    assert (cold.phases.container, cold.phases.weights, cold.total) == (0.0, 0.8, 1.0)


def test_paths_are_learned_apart_and_seeded_by_their_share() -> None:
    history = ColdStartHistory().with_total(8.0)
    assert estimate_cold_start_s(history, "x", "warm") == 2.0
    assert estimate_cold_start_s(history, "x", "resident") == 0.5
    history = history.with_total(3.0, "warm").with_total(0.4, "resident").with_total(9.0, "magic")
    assert estimate_cold_start_s(history, "x", "warm") == 3.0
    assert estimate_cold_start_s(history, "x", "resident") == 0.4
    assert estimate_cold_start_s(history, "x") == 8.0


def test_quantiles_lie_between_what_was_measured() -> None:
    history = ColdStartHistory((10.0, 20.0, 30.0))
    assert estimate_cold_start_s(history, "x", quantile=0.9) == pytest.approx(28.0)
    assert estimate_cold_start_s(history, "x", quantile=0.0) == 10.0


def test_the_status_keeps_the_history_over_a_restart() -> None:
    history = ColdStartHistory((9.0, 11.0), warm_s=(2.0,))
    records = record_cold_starts(history)
    assert [(r.path, r.count, r.median, r.p90) for r in records] == [
        ("fresh", 2, 10.0, 10.8),
        ("warm", 1, 2.0, 2.0),
    ]
    assert recall_cold_starts(records, None) == history
    assert recall_cold_starts([], None) == ColdStartHistory()
    last = derive_cold_start(100.0, {"decided": 104.0})
    assert recall_cold_starts([], last).totals_s == (4.0,)


def test_a_wake_from_a_standby_says_so_and_has_no_scheduling() -> None:
    instants = {"decided": 10.1, "container": 10.15, "weights": 10.5, "firstToken": 10.6}
    cold_start = derive_cold_start(10.0, instants, "warm")
    assert (cold_start.path, cold_start.total) == ("warm", 0.6)
    assert cold_start.phases.scheduled is None
