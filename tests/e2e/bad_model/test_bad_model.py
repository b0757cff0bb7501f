"""Models that cannot be served: the deployment says what to fix, held requests end with a cause."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.stage import specs
from e2e.stage.asks import Ask
from e2e.stage.figures import Figures
from e2e.stage.models import (
    break_architecture,
    break_shape,
    copy_tiny_chat,
    remove_weights,
    truncate_weights,
)
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e

_BREAKS: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("no-weights", remove_weights, "CheckpointNotFound", "safetensors"),
    ("truncated", truncate_weights, "CheckpointBroken", "model.safetensors"),
    ("bad-shape", break_shape, "CheckpointBroken", "shape"),
    ("odd-arch", break_architecture, "ArchitectureUnsupported", "OddForCausalLM"),
]


@pytest.mark.parametrize(
    ("name", "spoil", "reason", "word"), _BREAKS, ids=[name for name, *_ in _BREAKS]
)
def test_a_bad_checkpoint_ends_in_a_condition_and_an_event(
    release: Release,
    volume: Callable[[str], Path],
    name: str,
    spoil: Callable[[Path], None],
    reason: str,
    word: str,
) -> None:
    spoil(copy_tiny_chat(volume(name)))
    with release.deployed(name, specs.model(name)):
        held = release.asker(name).start()
        release.wait(name, lambda one: _has(one, reason), reason)
        condition = next(one for one in _conditions(release.get(name)) if one["reason"] == reason)
        assert word in condition["message"]
        assert release.condition(name, "Ready")["status"] == "False"
        release.wait_for_event(name, reason)
        _check_refusal(held.result())
        restarts = [s["restartCount"] for p in release.pods(name) for s in _containers(p)]
        assert sum(restarts) == 0, "a pod that cannot load must not crash-loop"


def test_a_path_that_is_not_on_the_claim_is_named(release: Release) -> None:
    with release.deployed("nowhere", specs.model("nowhere/at-all")):
        held = release.asker("nowhere").start()
        found = release.wait("nowhere", lambda one: _has(one, "CheckpointNotFound"), "not found")
        messages = [one["message"] for one in _conditions(found)]
        assert any("nowhere/at-all" in message for message in messages), messages
        assert held.result().error is not None


def test_a_claim_that_does_not_exist_is_named(release: Release) -> None:
    spec = {**specs.tiny_chat(), "model": {"source": "pvc://no-such-claim/x"}}
    with release.deployed("noclaim", spec):
        found = release.wait("noclaim", lambda one: _has(one, "ClaimNotFound"), "ClaimNotFound")
        assert any("no-such-claim" in one["message"] for one in _conditions(found))


def test_a_pod_that_never_becomes_ready_is_given_up_at_the_cold_start_timeout(
    release: Release, figures: Figures
) -> None:
    spec = specs.stub(release.images.stub, "--stub-never-ready=true", coldStartTimeout="5s")
    with release.deployed("never", spec):
        release.wait_at_zero("never")
        began = time.time()
        answer = release.asker("never").ask()
        assert isinstance(answer.error, openai.APIStatusError)
        assert answer.error.status_code == 503
        assert int(answer.error.response.headers["retry-after"]) > 0
        figures.note_seconds(
            "a pod that never becomes ready → 503 + Retry-After (coldStartTimeout 5 s)",
            [answer.ended_at - began],
            "5 s",
        )
        release.wait("never", lambda one: _has(one, "ColdStartTimeout"), "given up", 30)


def _check_refusal(answer: Ask) -> None:
    """503, or the same as an event of the stream when a comment had already kept it alive."""
    assert answer.error is not None
    assert answer.error.code == "model_unavailable"
    if isinstance(answer.error, openai.APIStatusError):
        assert answer.error.status_code == 503


def _conditions(found: dict[str, Any]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    return conditions


def _has(found: dict[str, Any], reason: str) -> bool:
    return any(one["reason"] == reason for one in _conditions(found))


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    statuses: list[dict[str, Any]] = pod["status"].get("containerStatuses", [])
    return statuses
