"""The catalogue of errors."""

from __future__ import annotations

import json

import pytest

from stoker_gateway import errors
from stoker_gateway.errors import ApiError

CATALOGUE: list[tuple[ApiError, int, str]] = [
    (errors.bad_request("bad", "invalid_json"), 400, "invalid_json"),
    (errors.unauthorized(), 401, "invalid_api_key"),
    (errors.unknown_path("GET", "/x"), 404, "unknown_url"),
    (errors.method_not_allowed("PUT", "/x", "GET"), 405, "method_not_allowed"),
    (errors.model_not_found("x", []), 404, "model_not_found"),
    (errors.too_large(5), 413, "request_too_large"),
    (errors.queue_full("x", 3), 429, "queue_full"),
    (errors.busy(), 429, "gateway_busy"),
    (errors.not_ready("x", 60, 3, ""), 503, "model_not_ready"),
    (errors.overloaded("x", 60, 3), 503, "overloaded"),
    (errors.unavailable("x", "why"), 503, "model_unavailable"),
    (errors.upstream_failed("x", 3), 502, "upstream_failed"),
    (errors.upstream_denied("x"), 502, "upstream_denied"),
    (errors.broken_off("x"), 502, "upstream_broken_off"),
    (errors.shutting_down(), 503, "gateway_shutting_down"),
    (errors.internal(), 500, "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "code"), CATALOGUE, ids=[row[2] for row in CATALOGUE])
def test_every_error_has_the_openai_shape(error: ApiError, status: int, code: str) -> None:
    (body,) = json.loads(error.body).values()
    assert set(body) == {"message", "type", "param", "code"}
    assert (error.status, body["code"]) == (status, code)
    assert body["message"].endswith((".", "why", "bad"))
    assert body["type"].endswith("_error")


@pytest.mark.parametrize(("status", "named"), [(429, True), (503, True), (400, False)])
def test_errors_that_pass_say_when_to_come_back(status: int, named: bool) -> None:
    for error, _, code in CATALOGUE:
        if error.status == status and code != "model_unavailable":
            assert any(name == b"retry-after" for name, _ in error.headers) is named


@pytest.mark.parametrize(("seconds", "said"), [(0, b"1"), (4.2, b"5"), (900, b"120")])
def test_retry_after_is_whole_and_within_what_sdks_obey(seconds: float, said: bytes) -> None:
    assert errors.queue_full("x", seconds).headers == [(b"retry-after", said)]


def test_a_hopeless_error_tells_sdks_not_to_retry() -> None:
    assert (b"x-should-retry", b"false") in errors.unavailable("x", "why").headers


def test_messages_do_not_repeat_megabytes_of_input() -> None:
    assert len(errors.model_not_found("m" * 10**6, []).body) < 500
    assert len(errors.unknown_path("GET", "/" * 10**6).body) < 500
