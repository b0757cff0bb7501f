"""`stoker why`: the account of a deployment or a pool from its status."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from stoker_api.status import LLMDeploymentStatus
from stoker_cli.account import describe_age, describe_wait, show_deployment, show_pool

NOW = 1795255200.0  # 2026-11-21T10:00:00Z
BEGUN = {"at": "2026-11-21T09:59:50Z", "fromReplicas": 0, "toReplicas": 1}


def condition(kind: str, status: str, reason: str = "Because", message: str = "words.") -> Any:
    return {"type": kind, "status": status, "reason": reason, "message": message}


AWAKE: dict[str, Any] = {
    "metadata": {"name": "chat"},
    "status": {
        "phase": "Serving",
        "readyReplicas": 1,
        "scaling": {
            "desired": 2,
            "reason": "QueueDepth",
            "message": "More than targetQueueDepth 5 wait per replica: 1 → 2.",
            "inputs": {"queued": 9, "ready": 1},
            "changes": [
                {
                    "at": "2026-11-21T09:55:00Z",
                    "fromReplicas": 0,
                    "toReplicas": 1,
                    "reason": "DemandAtZero",
                    "message": "Requests wait and nothing runs: 0 → 1.",
                },
                {"at": "2026-11-21T09:59:20Z", "toReplicas": 2, "fromReplicas": 1},
            ],
        },
        "conditions": [
            condition("Ready", "True", "Serving", "1 of 2 replicas answer."),
            condition("Progressing", "True", "Starting", "Replicas are starting."),
        ],
        "coldStarts": [{"path": "fresh", "count": 3, "median": 2.25, "p90": 4.5}],
        "lastColdStart": {"path": "fresh", "total": 2.1, "phases": {"decided": 0.01}},
    },
}


def account(show: Any, found: dict[str, Any]) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        show(console, found, NOW)
    return captured.get()


def test_says_what_is_wanted_why_and_what_it_waits_for() -> None:
    text = account(show_deployment, AWAKE)
    assert "chat is Serving" in text
    assert "2 wanted, 1 ready: More than targetQueueDepth 5 wait per replica: 1 → 2." in text
    assert "waits for: Replicas are starting." in text
    for word in ("QueueDepth", "queued", "Ready", "2.100"):
        assert word in text


def test_tells_the_last_changes_latest_first_and_how_long_ago() -> None:
    text = account(show_deployment, AWAKE)
    assert "5 min  0 → 1     DemandAtZero  Requests wait and nothing runs: 0 → 1." in text
    assert text.index("40 s") < text.index("5 min")


def test_tells_what_wakes_took() -> None:
    [row] = [line for line in account(show_deployment, AWAKE).splitlines() if "fresh  3" in line]
    assert row.split() == ["fresh", "3", "2.25", "4.50"]


def test_a_deployment_that_no_operator_has_seen_is_called_new() -> None:
    assert "chat is new" in account(show_deployment, {"metadata": {"name": "chat"}})


def test_brackets_of_a_message_are_shown_and_not_taken_for_markup() -> None:
    message = "install stoker[runtime], see [/usr/share] and spec.preload[0]"
    deployment: dict[str, Any] = {
        "metadata": {"name": "chat"},
        "status": {
            "scaling": {"desired": 0, "message": message, "reason": "[red]"},
            "conditions": [condition("Ready", "True", message=message)],
        },
    }
    text = account(show_deployment, deployment)
    assert "[red]" in text
    assert text.count("stoker[runtime], see [/usr/share] and spec.preload[0]") == 2


def test_a_wake_is_timed_by_earlier_ones() -> None:
    waking = {
        "phase": "Waking",
        "conditions": [condition("Scheduled", "True")],
        "scaling": {"changes": [BEGUN], "inputs": {"coldStartSeconds": 30}},
    }
    first = LLMDeploymentStatus.model_validate(waking)
    assert describe_wait(first, NOW) == (
        "the first token of the first replica, begun 10 s ago, by earlier wakes about 20.0 s more"
    )
    measured = waking | {"coldStarts": [{"path": "fresh", "totals": [8.0, 12.0, 16.0]}]}
    assert "about 4.0 s more" in describe_wait(LLMDeploymentStatus.model_validate(measured), NOW)


@pytest.mark.parametrize(
    ("phase", "conditions", "words"),
    [
        pytest.param("Serving", [condition("Progressing", "False")], "nothing", id="settled"),
        pytest.param(
            "Waking",
            [condition("Scheduled", "False", message="No GPU.")],
            "a node. No GPU.",
            id="no node",
        ),
        pytest.param(
            "Failed", [condition("Ready", "False", message="Mend it.")], "Mend it.", id="failed"
        ),
        pytest.param("Failed", [], "nothing", id="failed without words"),
        pytest.param("", [], "nothing", id="new"),
    ],
)
def test_what_has_to_happen_next_is_named(phase: str, conditions: list[Any], words: str) -> None:
    status = LLMDeploymentStatus.model_validate({"phase": phase, "conditions": conditions})
    assert describe_wait(status, NOW) == words


def test_a_pool_tells_its_decision_and_its_pods() -> None:
    pool = {
        "kind": "WarmPool",
        "metadata": {"name": "shared"},
        "status": {
            "standby": 2,
            "starting": 1,
            "adopted": 4,
            "sizing": {
                "desired": 3,
                "reason": "WakeRate",
                "message": "12 wakes an hour: a third standby pays.",
                "wakesPerHour": 12,
                "refillSeconds": 8.5,
            },
            "conditions": [condition("Ready", "True", "StandbyWaits")],
        },
    }
    text = account(show_pool, pool)
    assert "shared is StandbyWaits" in text
    assert "3 standbys wanted: 12 wakes an hour: a third standby pays." in text
    rows = {tuple(line.split()) for line in text.splitlines()}
    for row in (("standby", "2"), ("adopted", "4"), ("wakesPerHour", "12.0")):
        assert row in rows
    assert "new" in account(show_pool, {"metadata": {"name": "shared"}})


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (300, "5 min"), (10800, "3 h"), (259200, "3 d")]
)
def test_ages_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert describe_age(seconds) == words


def test_tells_how_fast_a_replica_was_measured_to_be() -> None:
    speed = {"prefillTokensPerSecond": 410.0, "stepSeconds": 0.12, "reports": 3}
    known = AWAKE | {"status": AWAKE["status"] | {"speed": speed}}
    text = account(show_deployment, known)
    assert "speed of a replica, as measured" in text
    assert "410.0" in text
    assert "speed of a replica" not in account(show_deployment, AWAKE)
