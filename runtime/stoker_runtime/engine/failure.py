"""Errors as messages, and messages as errors.

Knows the reasons of `errors` and `Failed`; does not know sockets. Used by processes that answer for
what failed in another one.
"""

from __future__ import annotations

import logging

from stoker_runtime.errors import EngineCrashed, OutOfMemory, StokerRuntimeError
from stoker_runtime.wire import Failed

log = logging.getLogger(__name__)


def explain(error: Exception) -> Failed:
    """The error's name and text; the log has more of what nobody foresaw."""
    match error:
        case StokerRuntimeError():
            failed = Failed(error.reason, str(error))
        case MemoryError():
            failed = Failed(OutOfMemory.reason, f"out of memory: {error}; give the pod more")
        case _:
            log.exception("the engine crashed")
            message = f"{type(error).__name__}: {error}; the log has the traceback"
            failed = Failed(EngineCrashed.reason, message)
    log.error("%s: %s", failed.reason, failed.message)
    return failed


def revive(failed: Failed, where: str) -> StokerRuntimeError:
    """The error that another process explained."""
    kinds = {kind.reason: kind for kind in StokerRuntimeError.__subclasses__()}
    return kinds.get(failed.reason, EngineCrashed)(f"{where}: {failed.message}")
