"""What can go wrong when the operator talks to the API server or to a runtime.

Knows the kinds of refusal that callers tell apart; does not know HTTP. `cluster/client.py` and
`cluster/admin.py` alone raise them, and map the client library's errors once.

    ClusterError            any refusal; tried again later
        NotFound            the object is not there
        Conflict            the object is not the one that was meant, or has changed
        Rejected            the object is refused as it is: quota, pod security, validation
    LeaseLost               this process may not write: another one leads
    RuntimeSilent           a runtime did not answer in time: it works, or it is gone
    RuntimeGone             nobody listens, or the connection broke
"""

from __future__ import annotations


class ClusterError(Exception):
    """The API server did not do what was asked."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        """How long the server wants to be left alone; 0: it did not say."""


class NotFound(ClusterError):
    """The object is not there."""


class Conflict(ClusterError):
    """Another object bears the name, or a precondition does not hold."""


class Rejected(ClusterError):
    """The object cannot be accepted as it is; trying again changes nothing by itself."""


class LeaseLost(Exception):
    """This process may not write: it does not lead any more."""


class RuntimeSilent(Exception):
    """A runtime took the order and has not answered yet."""


class RuntimeGone(Exception):
    """A runtime cannot be reached, or hung up."""
