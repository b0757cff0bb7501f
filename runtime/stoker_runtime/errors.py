"""What can go wrong in the runtime, each with the CamelCase reason that conditions carry.

Knows names only. Raised by the rooms, mapped once at the edges: the engine process turns them into
`Failed` messages or error outputs, the server into OpenAI error bodies.

    StokerRuntimeError
    ├── ConfigInvalid             a flag or variable has a wrong value
    ├── CheckpointNotFound        the folder or one of its files is absent
    ├── CheckpointBroken          a file is there but does not hold what it must
    ├── ArchitectureUnsupported   a model (or a feature of it) that is not built
    ├── OutOfMemory               weights and cache do not fit
    ├── RequestInvalid            one request can't run; the others can
    └── EngineCrashed             anything nobody foresaw
"""

from __future__ import annotations

from typing import ClassVar


class StokerRuntimeError(Exception):
    """Base class; the text says what is wrong and what to do."""

    reason: ClassVar[str] = "RuntimeFailed"
    """CamelCase, stable: users and dashboards match on it."""


class ConfigInvalid(StokerRuntimeError):
    """A flag or environment variable is unknown or has a wrong value."""

    reason = "ConfigInvalid"


class CheckpointNotFound(StokerRuntimeError):
    """The checkpoint folder, or a file it must hold, is absent."""

    reason = "CheckpointNotFound"


class CheckpointBroken(StokerRuntimeError):
    """A checkpoint file is truncated, malformed or holds other tensors than its config says."""

    reason = "CheckpointBroken"


class ArchitectureUnsupported(StokerRuntimeError):
    """The checkpoint is of a kind that this runtime does not run."""

    reason = "ArchitectureUnsupported"


class OutOfMemory(StokerRuntimeError):
    """Weights and KV cache do not fit into the memory there is."""

    reason = "OutOfMemory"


class RequestInvalid(StokerRuntimeError):
    """One request can't be run as asked."""

    reason = "RequestInvalid"


class EngineCrashed(StokerRuntimeError):
    """The engine ended for a reason that nobody foresaw; the log has the traceback."""

    reason = "EngineCrashed"
