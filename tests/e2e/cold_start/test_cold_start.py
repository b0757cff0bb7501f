"""What a wake costs: operator and gateway alone (the stub), and a runtime of 135M parameters."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.random_llama import make_random_llama
from e2e.stage import specs
from e2e.stage.asks import Ask
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e

_WAKES = 6


def test_the_stub_wakes_at_the_speed_of_the_node(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    with release.deployed("alone", specs.stub(release.images.stub, idleTimeout="1s")):
        wakes = [_wake(release, "alone", pod_watch) for _ in range(_WAKES)]
    figures.note_seconds("arrival → pod object", [pod_s for _, pod_s, _ in wakes], "≤ 0.05 s")
    routed = [_routed_s(answer, cold) for answer, _, cold in wakes]
    figures.note_seconds("container runs → first token here, stub", routed, "≤ 0.05 s")
    ttft = [answer.ttft_s for answer, _, _ in wakes]
    figures.note_seconds("arrival → first token, stub", ttft, "≤ 0.7 s; peers 2.71 s")


def test_a_135m_llama_wakes_in_a_fresh_pod(
    release: Release, figures: Figures, pod_watch: PodWatch, volume: Callable[[str], Path]
) -> None:
    make_random_llama(volume("llama-135m"))
    spec = specs.model("llama-135m", idleTimeout="2s")
    spec["resources"] = {"gpus": 0, "cpu": "1", "memory": "2Gi"}
    spec["engine"] = {"maxModelLen": 1024}
    with release.deployed("llama", spec):
        wakes = [_wake(release, "llama", pod_watch) for _ in range(_WAKES)]
    words = "arrival → first token, random Llama of 135M parameters, fresh pod"
    ttft = [answer.ttft_s for answer, _, _ in wakes]
    figures.note_seconds(words, ttft, "≤ 2.7 s; peers 2.75, 38, 100 s")
    for phase in wakes[0][2]["phases"]:
        took = [cold["phases"].get(phase, 0.0) for _, _, cold in wakes]
        figures.note_seconds(f"  of which {phase}", took, "–")


def _wake(release: Release, name: str, pod_watch: PodWatch) -> tuple[Ask, float, dict[str, Any]]:
    """One request at zero: the answer, seconds to the pod object, and the status' account."""
    release.wait_at_zero(name)
    time.sleep(1)
    before = release.get(name)["status"].get("lastColdStart")
    answer = release.asker(name).ask()
    assert not answer.lost, answer.error
    pod_s = pod_watch.added(name, since=answer.started_at).at - answer.started_at
    found = release.wait(
        name, lambda one: one["status"].get("lastColdStart") != before, "timed", 10
    )
    return answer, pod_s, found["status"]["lastColdStart"]


def _routed_s(answer: Ask, cold: dict[str, Any]) -> float:
    """From the start of the container's process to the first token at the client."""
    phases = cold["phases"]
    up_to_container = sum(
        phases.get(name, 0.0) for name in ("decided", "scheduled", "image", "container")
    )
    return answer.ttft_s - up_to_container
