"""Every answer that is an error: its status, its OpenAI body, its headers.

Knows the catalogue of codes and texts; does not know routes or the engine. Raised or returned by
the rooms of the server, written once by the connection. Texts never quote an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

REFUSED_HEADER = "x-stoker-refused"
"""Marks an answer given before any work, so that the gateway may ask another pod."""

INVALID = "invalid_request_error"
AUTHENTICATION = "authentication_error"
SERVER = "server_error"
RATE_LIMIT = "rate_limit_error"
OVERLOADED = "rate_limit_exceeded"
UNAVAILABLE = "service_unavailable"


@dataclass(slots=True, eq=False)
class Refusal(Exception):
    """An error as OpenAI clients expect it."""

    status: int
    message: str
    type: str = INVALID
    param: str | None = None
    """The request's field at fault."""
    code: str | None = None
    """Stable and machine-readable."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The JSON body."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """A field has a wrong value."""
    return Refusal(400, message, param=param, code=code)


def unsupported(param: str, message: str) -> Refusal:
    """A field that OpenAI has and this server has not."""
    return Refusal(400, message, param=param, code="unsupported_parameter")


def broken_json(message: str) -> Refusal:
    """The body can't be read at all."""
    return Refusal(400, message, code="invalid_json")


def context_too_long(limit: int, prompt: int, answer: int, param: str) -> Refusal:
    """Prompt and answer do not fit; both phrases that clients look for are in the text."""
    wanted = f"{prompt + answer} tokens ({prompt} in the {param}, {answer} in the completion)"
    if not answer:
        wanted = f"{prompt} tokens in the {param}"
    message = (
        f"This model's maximum context length is {limit} tokens. However, you requested {wanted}. "
        f"Please reduce the length of the {param}{' or completion' if answer else ''}."
    )
    return Refusal(400, message, param=param, code="context_length_exceeded")


def context_far_too_long(limit: int, at_least: int, param: str) -> Refusal:
    """The prompt can't fit, which its size alone says."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, you requested at least "
        f"{at_least} tokens in the {param}. Please reduce the length of the {param}."
    )
    return Refusal(400, message, param=param, code="context_length_exceeded")


def model_not_found(name: str) -> Refusal:
    """Another model than the one that is served."""
    message = f"The model `{name}` does not exist or you do not have access to it."
    return Refusal(404, message, param="model", code="model_not_found")


def unknown_route(method: str, path: str, meant: str = "") -> Refusal:
    """No such path; what was `meant` if the base URL of a client lacks its end."""
    hint = f" Did you mean {meant}? A base URL ends with /v1." if meant else ""
    return Refusal(404, f"Unknown request URL: {method} {path}.{hint}", code="unknown_url")


def method_not_allowed(method: str, path: str, allowed: tuple[str, ...]) -> Refusal:
    """The path exists, but not for this method."""
    message = f"Not allowed: {method} {path}. Allowed: {', '.join(allowed)}"
    headers = {"allow": ", ".join(allowed)}
    return Refusal(405, message, code="method_not_allowed", headers=headers)


def unauthorized(given: bool) -> Refusal:
    """The bearer token is absent or wrong."""
    message = (
        "Incorrect API key provided."
        if given
        else "You didn't provide an API key: send it in an Authorization header as `Bearer KEY`."
    )
    headers = {"www-authenticate": "Bearer"}
    return Refusal(401, message, AUTHENTICATION, code="invalid_api_key", headers=headers)


def body_too_large(limit_bytes: int) -> Refusal:
    """More body than is read."""
    message = f"The request body is larger than {limit_bytes} bytes."
    return Refusal(413, message, code="request_too_large")


def headers_too_large(limit_bytes: int) -> Refusal:
    """More headers than are read."""
    message = f"The request's headers are larger than {limit_bytes} bytes."
    return Refusal(431, message, code="headers_too_large")


def bad_http() -> Refusal:
    """Not HTTP/1.x."""
    return Refusal(400, "The request is not well-formed HTTP/1.1.", code="bad_http")


def too_slow() -> Refusal:
    """The request did not arrive in time."""
    return Refusal(408, "The request did not arrive in time.", code="request_timeout")


def wrong_media_type(given: str) -> Refusal:
    """The body is announced as something else than JSON."""
    message = f"Unsupported Content-Type {given!r}: send application/json."
    return Refusal(415, message, code="unsupported_media_type")


def refused(why: str, message: str, retry_after_s: int = 1) -> Refusal:
    """Not now, and nothing was done: `loading`, `draining` or `full`."""
    headers = {REFUSED_HEADER: why, "retry-after": str(retry_after_s), "x-should-retry": "true"}
    return Refusal(503, message, UNAVAILABLE, code=why, headers=headers)


def overloaded(retry_after_s: int = 1) -> Refusal:
    """More requests than may wait; nothing was done, so it may be asked again."""
    message = "The server has more requests than may wait; ask again later."
    headers = {"retry-after": str(retry_after_s), "x-should-retry": "true"}
    return Refusal(429, message, RATE_LIMIT, code=OVERLOADED, headers=headers)


def engine_crashed() -> Refusal:
    """The engine died under this request."""
    message = "The engine stopped while it worked on this request; you may try again."
    return Refusal(500, message, SERVER, code="engine_crashed")


def cut_off() -> Refusal:
    """The drain deadline came before the answer's end."""
    message = "The server went away before the answer was complete; ask again."
    return Refusal(503, message, UNAVAILABLE, code="cut_off")


def from_engine(error: str, code: str) -> Refusal:
    """The engine did not finish this one request; its texts for `invalid` are meant for users."""
    match code:
        case "invalid":
            return invalid(f"This request can't be run: {error}")
        case "overloaded":
            return overloaded()
        case _:
            return engine_error()


def engine_error() -> Refusal:
    """The engine failed at this one request."""
    message = "The engine could not finish this request; the server's log says why."
    return Refusal(500, message, SERVER, code="engine_error")


def internal_error() -> Refusal:
    """A fault of ours."""
    return Refusal(500, "The server had an error; its log says which.", SERVER, code="internal")
