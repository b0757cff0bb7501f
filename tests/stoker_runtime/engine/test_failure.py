"""An error that crosses a socket keeps its reason and says where it came from."""

from __future__ import annotations

import pytest

from stoker_runtime.engine.failure import explain, revive
from stoker_runtime.errors import CheckpointBroken, EngineCrashed, OutOfMemory
from stoker_runtime.wire import Failed


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (CheckpointBroken("a.safetensors is short"), "CheckpointBroken", "a.safetensors is short"),
        (MemoryError("9 bytes"), "OutOfMemory", "out of memory: 9 bytes; give the pod more"),
        (KeyError("x"), "EngineCrashed", "KeyError: 'x'; the log has the traceback"),
    ],
)
def test_every_error_has_a_reason_and_a_message(
    error: Exception, reason: str, message: str
) -> None:
    assert explain(error) == Failed(reason, message)


@pytest.mark.parametrize("kind", [CheckpointBroken, OutOfMemory, EngineCrashed])
def test_an_error_comes_back_as_its_kind(kind: type[Exception]) -> None:
    revived = revive(explain(kind("it")), "rank 1 of 2")
    assert (type(revived), str(revived)) == (kind, "rank 1 of 2: it")


def test_a_reason_that_nobody_knows_is_a_crash() -> None:
    assert type(revive(Failed("Odd", "it"), "there")) is EngineCrashed
