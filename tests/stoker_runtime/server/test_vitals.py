"""What is worth an announcement: at first, when steps take longer, when the cache has doubled."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_runtime.server.vitals import PAUSE_S, SHARE_TOKENS, Vitals
from stoker_runtime.wire import Speed, Stats

SPEED = Speed(0.01, 1e-4, 3e-4, 512)


def stats(**fields: Any) -> Stats:
    return Stats(0, 0, 0, 0, 0, 0, 0, **fields)


def test_nothing_is_told_before_anything_is_known() -> None:
    vitals = Vitals()
    assert vitals.render() == {}
    assert not vitals.take_news(100.0)
    vitals.note(stats(steps=3, cached_tokens=64))
    assert not vitals.take_news(100.0)


def test_a_first_speed_is_told_once() -> None:
    vitals = Vitals()
    vitals.note(stats(steps=64, speed=SPEED))
    assert vitals.take_news(5.0)
    assert not vitals.take_news(500.0)
    assert vitals.render()["speed"] == SPEED
    assert vitals.render()["steps"] == 64


@pytest.mark.parametrize(
    ("speed", "told"),
    [
        (Speed(0.0105, 1e-4, 3e-4, 512), False),
        (Speed(0.012, 1e-4, 3e-4, 512), True),
        (Speed(0.01, 1.2e-4, 3e-4, 512), True),
        (Speed(0.01, 1e-4, 4.5e-4, 512), True),
        (None, True),
    ],
)
def test_a_speed_is_told_again_when_it_has_changed_by_a_tenth(
    speed: Speed | None, told: bool
) -> None:
    vitals = Vitals()
    vitals.note(stats(speed=SPEED))
    assert vitals.take_news(0.0)
    vitals.note(stats(speed=speed))
    assert not vitals.take_news(PAUSE_S - 0.1)
    assert vitals.take_news(PAUSE_S) is told


def test_slow_drift_is_measured_against_what_was_told() -> None:
    vitals, told = Vitals(), 0
    for number in range(100):
        vitals.note(stats(speed=Speed(0.01 * 1.01**number, 1e-4, 3e-4, 512)))
        told += vitals.take_news(20.0 * number)
    assert 3 <= told <= 12


def test_a_cache_is_told_when_it_has_doubled() -> None:
    vitals = Vitals()
    told = []
    for number, tokens in enumerate((128, 300, 600, 1100, 2000, 3000, 800)):
        vitals.note(stats(cached_tokens=tokens))
        if vitals.take_news(20.0 * number):
            told.append(tokens)
    assert told == [600, 2000, 800]


def test_the_share_of_hits_follows_the_latest_prompts() -> None:
    vitals = Vitals()
    vitals.note(stats(prefix_queries=1000, prefix_hits=900))
    assert vitals.render()["cache"] == {"tokens": 0, "hit_share": 0.9}
    queries, hits = 1000, 900
    for _ in range(50):
        queries += SHARE_TOKENS // 10
        vitals.note(stats(prefix_queries=queries, prefix_hits=hits))
    cache = vitals.render()["cache"]
    assert isinstance(cache, dict)
    assert cache["hit_share"] < 0.02
