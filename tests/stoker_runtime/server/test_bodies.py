"""Whatever a body holds, over HTTP: an answer, or an error that names its field; never a crash."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stoker_runtime.server.bodies import ChatBody, CompletionBody
from support.runtime_server import MODEL, RuntimeServer

FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ROUTES = {
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2,
    },
    "/v1/completions": {"model": MODEL, "prompt": "hi", "max_tokens": 2},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [5, 6]},
}
NAMES = sorted({*ChatBody.__struct_fields__, *CompletionBody.__struct_fields__, "tokens"})
ODD = st.sampled_from(
    [
        *(0, -1, 1, 2, 0.5, 1e308, -1e308, 2**31, 2**63, -(2**63), 10**40, True, False, None),
        *("", "a", "\x00", "\u202e", "😀" * 100, "none", "auto", [], {}, [[]], [None], {"": None}),
        *(["a"], [5], [1, "a"], [[5], [6]], [-1], [10**9], {"5": 5}),
        *({"include_usage": True}, {"type": "text"}),
    ]
)
ANY = st.recursive(
    ODD | st.text(max_size=20) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def line(scripted: RuntimeServer) -> Iterator[http.client.HTTPConnection]:
    """One connection for all: an answer that is not whole breaks the next."""
    connection = http.client.HTTPConnection("127.0.0.1", scripted.port, timeout=30)
    yield connection
    connection.close()


def post(line: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    line.request("POST", path, body, {"content-type": "application/json"})
    response = line.getresponse()
    return response.status, response.read()


def assert_answered(status: int, data: bytes) -> None:
    """An answer or stream, or an error as OpenAI words it."""
    if status == 200:
        if data.startswith(b"data: "):
            assert data.endswith(b"data: [DONE]\n\n")
        else:
            json.loads(data)
        return
    assert 400 <= status < 500, data
    error = json.loads(data)
    assert set(error) == {"error"}
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["message"]
    assert error["error"]["code"]


@FUZZ
@given(st.sampled_from(sorted(ROUTES)), st.dictionaries(st.sampled_from(NAMES), ANY, max_size=4))
def test_any_fields_are_answered_or_refused(
    line: http.client.HTTPConnection, path: str, fields: dict[str, Any]
) -> None:
    assert_answered(*post(line, path, json.dumps(ROUTES[path] | fields).encode()))


@FUZZ
@given(st.sampled_from(sorted(ROUTES)), st.binary(max_size=40), st.integers(0, 200))
@example("/v1/completions", b"", 0)
@example("/v1/completions", b"[" * 100_000, 0)
@example("/v1/completions", b'{"a":' * 100_000, 0)
@example("/v1/completions", b"9" * 100_000, 0)
@example("/v1/completions", b"\xff\xfe{}", 0)
@example("/v1/completions", b"\xef\xbb\xbf{}", 0)
def test_any_bytes_in_any_place_are_answered_or_refused(
    line: http.client.HTTPConnection, path: str, noise: bytes, at: int
) -> None:
    whole = json.dumps(ROUTES[path]).encode()
    at = min(at, len(whole))
    assert_answered(*post(line, path, noise))
    assert_answered(*post(line, path, whole[:at] + noise + whole[at:]))
    assert_answered(*post(line, path, whole[:at]))


HOSTILE = {
    "lone surrogate": b'"\\ud800"',
    "lone surrogate, low": b'"a\\udc00b"',
    "surrogate as key": b'{"\\ud800": 1}',
    "surrogate deep": b'[[{"a": ["\\udfff"]}]]',
    "NaN": b"NaN",
    "infinity": b"-Infinity",
    "endless number": b"1e99999",
    "many digits": b"9" * 5000,
    "deep list": b"[" * 2000 + b"]" * 2000,
    "deep object": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "nul": b'"\\u0000"',
    "long text": b'"' + b"x" * 100_000 + b'"',
    "long list": b"[" + b"5," * 20_000 + b"5]",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_hostile_values_in_every_field(
    line: http.client.HTTPConnection, path: str, value: bytes
) -> None:
    for name in NAMES:
        rest = {key: part for key, part in ROUTES[path].items() if key != name}
        body = json.dumps(rest).encode()[:-1] + b', "%b": %b}' % (name.encode(), value)
        assert_answered(*post(line, path, body))


@pytest.mark.parametrize("field", ["stop", "user", "cache_salt", "model", "prompt", "suffix"])
def test_a_lone_surrogate_is_refused_by_name(scripted: RuntimeServer, field: str) -> None:
    body = json.dumps(ROUTES["/v1/completions"] | {field: "a\ud800"}).encode()
    answer = scripted.request(
        "POST", "/v1/completions", body, headers={"content-type": "application/json"}
    )
    assert (answer.status, answer.error["param"]) == (400, field)
    assert "surrogate" in answer.error["message"]


@pytest.mark.parametrize("depth", [100, 400, 700, 900, 990])
def test_a_surrogate_beside_deep_nesting_is_refused(scripted: RuntimeServer, depth: int) -> None:
    deep = "[" * depth + '"\\ud800"' + "]" * depth
    body = f'{{"model": "tiny", "prompt": "hi", "x": {deep}}}'.encode()
    answer = scripted.request(
        "POST", "/v1/completions", body, headers={"content-type": "application/json"}
    )
    assert answer.status == 400
    assert answer.error["code"] in ("invalid_value", "invalid_json")
