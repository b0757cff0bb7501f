"""What steps cost: found through noise, outliers and one-sided work, and never told too early."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker_runtime.engine.pace import ENOUGH_STEPS, Pace
from stoker_runtime.wire import Speed

STEP_S, TOKEN_S, ROW_S = 0.008, 60e-6, 160e-6


def truth(num_tokens: int, num_rows: int) -> float:
    """Seconds of a step of a machine that is known."""
    return STEP_S + TOKEN_S * (num_tokens - num_rows) + ROW_S * num_rows


def predict(speed: Speed, num_tokens: int, num_rows: int) -> float:
    return speed.step_s + speed.token_s * (num_tokens - num_rows) + speed.seq_s * num_rows


def mixed(rng: random.Random) -> tuple[int, int]:
    """Tokens and rows of a step of ordinary traffic: one in six has a piece of a prompt."""
    rows = rng.randint(0, 32)
    prompt = rng.choice((64, 128, 300, 480)) if rng.random() < 1 / 6 or not rows else 0
    return rows + prompt, rows


def learn(num_steps: int, noise: float = 0.0, seed: int = 1) -> Pace:
    rng, pace = random.Random(seed), Pace()
    for _ in range(num_steps):
        tokens, rows = mixed(rng)
        pace.note(tokens, rows, truth(tokens, rows) * rng.lognormvariate(0, noise))
    return pace


def test_a_machine_is_found_exactly_without_noise() -> None:
    speed = learn(2000).speed(512)
    assert speed is not None
    assert speed.step_s == pytest.approx(STEP_S, rel=0.02)
    assert speed.token_s == pytest.approx(TOKEN_S, rel=0.02)
    assert speed.seq_s == pytest.approx(ROW_S, rel=0.05)
    assert speed.chunk_tokens == 512


@pytest.mark.parametrize("seed", range(5))
def test_it_predicts_new_steps_through_noise(seed: int) -> None:
    speed = learn(500, noise=0.2, seed=seed).speed(512)
    assert speed is not None
    rng = random.Random(seed + 100)
    for _ in range(100):
        step = mixed(rng)
        assert predict(speed, *step) == pytest.approx(truth(*step), rel=0.25)


def test_a_step_in_twenty_that_hangs_changes_little() -> None:
    rng, pace = random.Random(3), Pace()
    for _ in range(1000):
        tokens, rows = mixed(rng)
        pace.note(tokens, rows, truth(tokens, rows) * (50 if rng.random() < 0.05 else 1))
    speed = pace.speed(512)
    assert speed is not None
    for step in ((512, 0), (32, 32), (1, 1)):
        assert predict(speed, *step) == pytest.approx(truth(*step), rel=0.35)


def test_nothing_is_said_too_early_or_without_prompts() -> None:
    assert learn(ENOUGH_STEPS - 1).speed(512) is None
    pace = Pace()
    for _ in range(1000):
        pace.note(4, 4, 0.01)
    assert pace.speed(512) is None


def test_nothing_is_said_of_a_machine_that_follows_no_rule() -> None:
    rng, pace = random.Random(5), Pace()
    for _ in range(1000):
        pace.note(*mixed(rng), 10 ** rng.uniform(-3, 1))
    assert pace.speed(512) is None


def test_an_hour_of_decoding_does_not_make_prompts_forgotten() -> None:
    pace = learn(600)
    for _ in range(20000):
        pace.note(3, 3, truth(3, 3))
    speed = pace.speed(512)
    assert speed is not None
    assert speed.token_s == pytest.approx(TOKEN_S, rel=0.1)
    assert predict(speed, 3, 3) == pytest.approx(truth(3, 3), rel=0.05)


def test_a_machine_that_became_slower_is_followed() -> None:
    pace, rng = learn(1000), random.Random(9)
    for _ in range(3000):
        step = mixed(rng)
        pace.note(*step, 5 * truth(*step))
    speed = pace.speed(512)
    assert speed is not None
    for step in ((512, 0), (32, 32)):
        assert predict(speed, *step) == pytest.approx(5 * truth(*step), rel=0.1)


def test_one_user_at_a_time_does_not_make_company_free() -> None:
    """Rows were never seen to cost anything: then each costs what a token of a prompt does."""
    pace = Pace()
    for number in range(400):
        tokens, rows = (200, 0) if number % 20 == 0 else (1, 1)
        pace.note(tokens, rows, truth(tokens, rows))
    speed = pace.speed(512)
    assert speed is not None
    assert speed.seq_s >= speed.token_s > 0


def test_tokens_too_few_to_be_seen_are_not_free() -> None:
    pace = Pace()
    for number in range(400):
        pace.note(*((10, 0) if number % 10 == 0 else (1, 1)), 0.01)
    speed = pace.speed(2048)
    assert speed is not None
    assert speed.step_s == pytest.approx(0.01, rel=0.05)
    assert 10 * speed.token_s >= 0.1 * speed.step_s * 0.99


def test_a_real_engine_is_predicted_step_by_step() -> None:
    """570 steps of an engine on a CPU that others use too, so that it becomes half as fast midway:
    prompts of 20 to 200 tokens, answers of 8 to 30, requests by chance. Each step is predicted by
    those before it."""
    steps = json.loads((Path(__file__).parents[2] / "support/recorded_steps.json").read_text())
    pace, predicted, measured = Pace(), [0.0, 0.0], [0.0, 0.0]
    for tokens, rows, seconds in steps:
        if speed := pace.speed(512):
            has_prompt = tokens > rows
            predicted[has_prompt] += predict(speed, tokens, rows)
            measured[has_prompt] += seconds
        pace.note(tokens, rows, seconds)
    assert sum(measured) > 20
    assert sum(predicted) == pytest.approx(sum(measured), rel=0.25)
    assert predicted == pytest.approx(measured, rel=0.4)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(st.integers(0, 512), st.integers(0, 64), st.floats(0, 10)), min_size=1, max_size=8
    )
)
def test_whatever_is_seen_all_parts_are_finite_and_none_is_negative(
    kinds: list[tuple[int, int, float]],
) -> None:
    pace = Pace()
    for prompt, rows, seconds in kinds * 20:
        pace.note(prompt + rows or 1, rows, seconds)
    speed = pace.speed(512)
    if speed is not None:
        assert 0 <= speed.step_s < 40
        assert 0 < speed.token_s <= speed.seq_s < 40
