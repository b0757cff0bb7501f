"""`stoker why`: the account of a deployment from its status."""

from typing import Any

from rich.console import Console

from stoker_cli.why import show

_AWAKE: dict[str, Any] = {
    "metadata": {"name": "chat"},
    "status": {
        "phase": "Serving",
        "scaling": {
            "desired": 2,
            "reason": "QueueDepth",
            "message": "9 requests wait, one replica may have 5.",
            "inputs": {"queued": 9, "ready": 1},
        },
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Serving", "message": "1 replica."}
        ],
        "lastColdStart": {"path": "fresh", "total": 2.1, "phases": {"decided": 0.01}},
    },
}


def _account(deployment: dict[str, Any]) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        show(console, deployment)
    return captured.get()


def test_says_decision_inputs_conditions_and_last_cold_start() -> None:
    text = _account(_AWAKE)
    for word in ("chat is Serving", "9 requests wait", "QueueDepth", "queued", "Ready", "2.100"):
        assert word in text


def test_a_deployment_that_no_operator_has_seen_is_called_new() -> None:
    assert "chat is new" in _account({"metadata": {"name": "chat"}})


def test_brackets_of_a_message_are_shown_and_not_taken_for_markup() -> None:
    message = "install stoker[runtime], see [/usr/share] and spec.preload[0]"
    deployment: dict[str, Any] = {
        "metadata": {"name": "chat"},
        "status": {
            "scaling": {"desired": 0, "message": message, "inputs": {"why": "[red]"}},
            "conditions": [{"type": "Ready", "message": message}],
        },
    }
    text = _account(deployment)
    assert "[red]" in text
    assert text.count("stoker[runtime], see [/usr/share] and spec.preload[0]") == 2
