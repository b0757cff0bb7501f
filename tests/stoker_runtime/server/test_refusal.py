"""Errors of the engine become the status that says whether asking again helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from stoker_runtime.server import refusal
from stoker_runtime.wire import ErrorCode
from support.fake_engine import Script
from support.runtime_server import MODEL, run_server

CASES: list[tuple[ErrorCode, type[openai.APIStatusError], int, str]] = [
    ("overloaded", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("invalid", openai.BadRequestError, 400, "invalid_value"),
    ("internal", openai.InternalServerError, 500, "engine_error"),
]


@pytest.mark.parametrize(("code", "error", "status", "said"), CASES)
def test_the_client_maps_what_the_engine_says(
    checkpoint: Path,
    tmp_path: Path,
    code: ErrorCode,
    error: type[openai.APIStatusError],
    status: int,
    said: str,
) -> None:
    script = Script(error="the engine's words", error_code=code)
    with run_server(checkpoint, tmp_path / "log", script=script) as server:
        server.wait_for("/ready", 200)
        with server.client() as client:
            for stream in (False, True):
                fields: dict[str, Any] = {"model": MODEL, "prompt": "x", "stream": stream}
                with pytest.raises(error) as refused:
                    client.completions.create(**fields)
                assert (refused.value.status_code, refused.value.code) == (status, said)
                assert ("retry-after" in refused.value.response.headers) == (status == 429)
                assert server.metric(_refusals(said)) == 1 + stream
                assert ("the engine's words" in refused.value.message) == (status == 400)


def _refusals(code: str) -> str:
    return f'stoker_runtime_refusals_total{{model_name="{MODEL}",code="{code}"}}'


def test_a_gateway_hears_of_an_overload_as_of_a_full_pod(checkpoint: Path, tmp_path: Path) -> None:
    script = Script(error="too many wait", error_code="overloaded")
    environ = {"STOKER_ANNOUNCE_URL": "http://127.0.0.1:9/announce"}
    with run_server(checkpoint, tmp_path / "log", script=script, environ=environ) as server:
        server.wait_for("/ready", 200)
        answer = server.request("POST", "/v1/completions", {"model": MODEL, "prompt": "x"})
    assert (answer.status, answer.error["code"]) == (503, "full")
    assert answer.headers[refusal.REFUSED_HEADER] == "full"


def test_context_errors_have_the_code_and_both_phrases() -> None:
    for error in (
        refusal.context_too_long(512, 600, 0, "messages"),
        refusal.context_too_long(512, 500, 100, "prompt"),
        refusal.context_far_too_long(512, 9000, "prompt"),
    ):
        assert (error.status, error.code) == (400, "context_length_exceeded")
        assert "maximum context length is 512 tokens" in error.message
        assert "Please reduce the length of the" in error.message
