"""What a wake costs by each way: a fresh pod, a standby, a standby that holds the weights."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.random_llama import make_random_llama
from e2e.stage import specs
from e2e.stage.figures import Figures
from e2e.stage.pools import RESOURCES, pooled
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e

_ROUNDS = 5
_MODEL = f"pvc://{specs.CLAIM}/llama-135m"


def _llama(**scaling: Any) -> dict[str, Any]:
    spec = specs.model("llama-135m", idleTimeout="2s", **scaling)
    return {**spec, "resources": RESOURCES, "engine": {"maxModelLen": 1024}}


def test_a_standby_wakes_in_a_fraction_of_a_fresh_pods_time(
    release: Release, figures: Figures, volume: Callable[[str], Path]
) -> None:
    make_random_llama(volume("llama-135m"))
    took: dict[str, list[float]] = {"fresh": [], "warm": [], "resident": []}
    phases: dict[str, dict[str, Any]] = {}
    with (
        release.deployed("fresh", _llama()),
        pooled(release, "light") as light,
        release.deployed("warm", _llama(warmPool={"name": "light"})),
        pooled(release, "heavy", preload=[_MODEL]) as heavy,
        release.deployed("resident", _llama(warmPool={"name": "heavy"})),
    ):
        for _ in range(_ROUNDS):
            for name in took:
                for pool in (light, heavy):
                    pool.wait_full()
                release.wait_at_zero(name)
                time.sleep(1.5)
                cold = _wake(release, name)
                assert cold["path"] == name
                took[name].append(cold["ttft"])
                phases[name] = cold["phases"]
    for name, seconds in took.items():
        figures.note_seconds(f"135M, {name}: arrival → first token", seconds, "–")
        figures.note(f"135M, {name}: phases of the last", str(phases[name]), "–")
    for name, bar in (("warm", "≤ 1/4"), ("resident", "≤ 1/10")):
        ratios = [a / b for a, b in zip(took[name], took["fresh"], strict=True)]
        middle = statistics.median(ratios)
        words = f"{middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        figures.note(f"135M, {name} ÷ fresh: arrival → first token", words, bar, len(ratios))


def _wake(release: Release, name: str) -> dict[str, Any]:
    before = release.get(name)["status"].get("lastColdStart")
    answer = release.asker(name).ask()
    assert not answer.lost, answer.error
    found = release.wait(
        name, lambda one: one["status"].get("lastColdStart") != before, "timed", 10
    )
    return {**found["status"]["lastColdStart"], "ttft": answer.ttft_s}
