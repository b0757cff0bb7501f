"""What the gateway answers when it does not answer: OpenAI-shaped errors with string codes.

Knows status, type and code of every refusal; does not know queues or sockets. Raised anywhere in
the gateway, written in one place: `http.server`.

    ApiError          an answer in the OpenAI error shape
    UpstreamError     a runtime pod did not give a first byte (`proxy` retries it)
    WatchGone         the resource version is too old: list again
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import ceil

INVALID = "invalid_request_error"
RETRY_AFTER_CAP_S = 120
"""OpenAI's SDK does not retry when it is told to wait longer."""


class ApiError(Exception):
    """An error that a client sees: `{"error": {message, type, param, code}}`."""

    def __init__(
        self, status: int, code: str, message: str, type: str = INVALID, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def body(self) -> bytes:
        """The JSON document."""
        error = {"message": str(self), "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    @property
    def event(self) -> bytes:
        """The same inside a stream that has begun, and its regular end."""
        return b"data: " + self.body + b"\n\ndata: [DONE]\n\n"

    def retry_after(self, seconds: float) -> ApiError:
        """Tell the client when to try again (1 to 120 s)."""
        whole = min(max(ceil(seconds), 1), RETRY_AFTER_CAP_S)
        self.headers.append((b"retry-after", str(whole).encode()))
        return self

    def hopeless(self) -> ApiError:
        """Tell SDKs not to retry: the same request would fail again."""
        self.headers.append((b"x-should-retry", b"false"))
        return self


class UpstreamError(Exception):
    """A pod gave no first byte: not reached, refused, or closed. `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WatchGone(Exception):
    """The API server no longer knows the resource version that a watch started from."""


def bad_request(message: str, code: str, param: str | None = None) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, code, message, param=param)


def unauthorized() -> ApiError:
    """401: no key, or a wrong one."""
    message = "Missing or wrong API key. Send it as `Authorization: Bearer <key>`."
    error = ApiError(401, "invalid_api_key", message, type="authentication_error")
    error.headers.append((b"www-authenticate", b"Bearer"))
    return error


def unknown_path(method: str, path: str, meant: str = "") -> ApiError:
    """404: no such route; what was `meant` if the base URL of a client lacks its end."""
    hint = f" Did you mean {meant}? A base URL ends with /v1." if meant else ""
    return ApiError(404, "unknown_url", f"Unknown request URL: {method} {path[:200]}.{hint}")


def method_not_allowed(method: str, path: str, allowed: str) -> ApiError:
    """405, naming what is allowed."""
    message = f"`{method[:20]}` is not allowed for {path[:200]}; use {allowed}."
    error = ApiError(405, "method_not_allowed", message)
    error.headers.append((b"allow", allowed.encode()))
    return error


def model_not_found(model: str, known: Iterable[str]) -> ApiError:
    """404, naming the models that exist."""
    names = sorted(known)
    listed = ", ".join(f"`{name}`" for name in names[:20]) or "none yet"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    message = f"The model `{model[:200]}` does not exist. Known models: {listed}{more}."
    return ApiError(404, "model_not_found", message, param="model")


def too_large(limit_bytes: int) -> ApiError:
    """413: announced or sent more than the limit."""
    message = f"The request body is larger than {limit_bytes} bytes."
    return ApiError(413, "request_too_large", message)


def queue_full(model: str, retry_s: float) -> ApiError:
    """429: as many requests as may wait are waiting."""
    message = f"Too many requests wait for `{model}`. Try again later."
    return ApiError(429, "queue_full", message, type="rate_limit_error").retry_after(retry_s)


def busy() -> ApiError:
    """429: the bodies of all requests together fill this worker's memory."""
    message = "This gateway holds as much as it may. Try again later."
    return ApiError(429, "gateway_busy", message, type="rate_limit_error").retry_after(1)


def not_ready(model: str, waited_s: float, retry_s: float, cause: str) -> ApiError:
    """503 at the end of `coldStartTimeout`: no replica became ready."""
    why = f" {cause}" if cause else ""
    message = f"No replica of `{model}` became ready within {waited_s:.0f} s.{why}"
    return ApiError(503, "model_not_ready", message, type="server_error").retry_after(retry_s)


def overloaded(model: str, waited_s: float, retry_s: float) -> ApiError:
    """503 at the end of `coldStartTimeout`: replicas are ready, but all slots stayed busy."""
    message = f"All replicas of `{model}` were busy for {waited_s:.0f} s. Try again later."
    return ApiError(503, "overloaded", message, type="server_error").retry_after(retry_s)


def unavailable(model: str, cause: str) -> ApiError:
    """503: the model cannot be loaded, and waiting will not help."""
    message = f"The model `{model}` cannot be served: {cause}"
    return ApiError(503, "model_unavailable", message, type="server_error").hopeless()


def upstream_failed(model: str, tries: int) -> ApiError:
    """502: replicas took the request and died before the first byte, again and again."""
    message = f"{tries} replicas of `{model}` failed before they answered this request."
    return ApiError(502, "upstream_failed", message, type="server_error")


def upstream_denied(model: str) -> ApiError:
    """502: the pod did not accept the gateway's token; the client's key is not to blame."""
    message = f"The replica of `{model}` did not accept this gateway's token."
    return ApiError(502, "upstream_denied", message, type="server_error")


def broken_off(model: str) -> ApiError:
    """Inside a stream: the replica ended after the first byte."""
    message = f"The replica of `{model}` ended before the answer was complete. Try again."
    return ApiError(502, "upstream_broken_off", message, type="server_error")


def shutting_down(retry_s: float = 1) -> ApiError:
    """503 at the drain deadline of this gateway."""
    message = "This gateway is shutting down. Try again."
    error = ApiError(503, "gateway_shutting_down", message, type="server_error")
    return error.retry_after(retry_s)


def internal() -> ApiError:
    """500: our fault; the log says more."""
    return ApiError(500, "internal_error", "The gateway failed.", type="server_error")
