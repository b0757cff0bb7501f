"""What is reported, and how it survives a round trip through the API server."""

from typing import Any

from stoker_api.status import LLMDeploymentStatus, WarmPoolStatus

REPORTED: dict[str, Any] = {
    "observedGeneration": 3,
    "phase": "Serving",
    "replicas": 2,
    "readyReplicas": 1,
    "selector": "stoker.dev/deployment=chat",
    "url": "http://stoker-gateway.stoker.svc/v1",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Serving",
            "message": "1 of 2 replicas answer.",
            "lastTransitionTime": "2026-11-21T09:35:00Z",
            "observedGeneration": 3,
        }
    ],
    "scaling": {
        "desired": 2,
        "reason": "QueueDepth",
        "message": "7 wait.",
        "inputs": {"queued": 7, "running": 32, "ready": 1, "starting": 1, "coldStartSeconds": 2.5},
        "changes": [
            {
                "at": "2026-11-21T09:35:00Z",
                "fromReplicas": 1,
                "toReplicas": 2,
                "reason": "QueueDepth",
                "message": "7 wait.",
            }
        ],
    },
    "lastColdStart": {"path": "fresh", "total": 2.5, "phases": {"decided": 0.01, "weights": 1.5}},
}


def test_a_status_is_written_as_it_was_read() -> None:
    status = LLMDeploymentStatus.model_validate(REPORTED)
    assert status.model_dump(by_alias=True, exclude_none=True) == REPORTED


def test_a_new_object_has_an_empty_status() -> None:
    status = LLMDeploymentStatus.model_validate({})
    assert (status.replicas, status.conditions, status.last_cold_start) == (0, [], None)
    assert WarmPoolStatus.model_validate({}).standby == 0


def test_a_status_of_a_newer_release_is_read() -> None:
    newer = {
        **REPORTED,
        "phase": "Dreaming",
        "weather": "fine",
        "lastColdStart": {"path": "cached"},
    }
    status = LLMDeploymentStatus.model_validate(newer)
    assert status.phase == "Dreaming"
    assert status.last_cold_start is not None
    assert status.last_cold_start.path == "cached"


def test_two_statuses_that_say_the_same_are_equal() -> None:
    first, second = (LLMDeploymentStatus.model_validate(REPORTED) for _ in range(2))
    assert first == second
