"""The doors: routes, methods, keys, probes, and OpenAI's shape for everything that is refused."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from support.runtime_server import MODEL, RuntimeServer

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("admin", [False, True], ids=["public", "admin"])
def test_probes_are_open(server: RuntimeServer, path: str, method: str, admin: bool) -> None:
    headers = {"authorization": ""}
    answer = server.request(method, path, headers=headers, admin=admin)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) > 0
    assert bool(answer.body) == (method == "GET")


def test_ready_tells_the_slots(server: RuntimeServer) -> None:
    assert server.request("GET", "/ready").json == {"slots": 8}


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer wrong", "secret", "Bearer  secret", "Bearer secret,", "Basic secret"],
)
def test_a_wrong_key_is_refused(server: RuntimeServer, given: str) -> None:
    answer = server.request("GET", "/v1/models", headers={"authorization": given})
    assert answer.status == 401
    assert answer.error["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_schemes_case_does_not_matter(server: RuntimeServer) -> None:
    answer = server.request("GET", "/v1/models", headers={"authorization": "bearer secret"})
    assert answer.status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models?x=/health",
        "//health",
        "/health/",
        "/health/../v1/models",
        "/health%2f..%2fv1/models",
        "/HEALTH",
        "/metrics;/v1/models",
        "http://x/v1/models?/health",
        "*",
    ],
)
def test_only_the_exact_path_of_a_probe_is_open(server: RuntimeServer, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: x/health?\r\nConnection: close\r\n\r\n"
    assert b" 401 " in server.raw(head.encode()).partition(b"\r\n")[0]


def test_a_target_as_proxies_send_it_is_understood(server: RuntimeServer) -> None:
    head = b"GET http://stoker/health?x HTTP/1.1\r\nHost: stoker\r\nConnection: close\r\n\r\n"
    assert b" 200 " in server.raw(head).partition(b"\r\n")[0]


def test_two_keys_are_not_one(server: RuntimeServer) -> None:
    lines = ["GET /v1/models HTTP/1.1", "Host: x", "Authorization: Bearer no"]
    lines += ["Authorization: Bearer secret", "Connection: close", "", ""]
    assert b" 401 " in server.raw("\r\n".join(lines).encode()).partition(b"\r\n")[0]


def test_an_unknown_route_is_refused_by_name(server: RuntimeServer) -> None:
    answer = server.request("POST", "/v1/embeddings", {})
    assert answer.status == 404
    assert answer.error["code"] == "unknown_url"
    assert "POST /v1/embeddings" in answer.error["message"]
    assert "Did you mean" not in answer.error["message"]


def test_a_base_url_without_its_end_is_mended_in_the_error(server: RuntimeServer) -> None:
    answer = server.request("POST", "/chat/completions", {})
    assert "Did you mean /v1/chat/completions?" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", COMPLETION, "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_names_the_right_ones(
    server: RuntimeServer, method: str, path: str, allowed: str
) -> None:
    answer = server.request(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allowed
    assert answer.error["code"] == "method_not_allowed"


def test_models_are_listed_with_a_stable_date(server: RuntimeServer) -> None:
    first, second = (server.request("GET", "/v1/models").json for _ in range(2))
    assert first == second
    (model,) = first["data"]
    assert (model["id"], model["object"], model["owned_by"]) == (MODEL, "model", "stoker")
    assert model["max_model_len"] == 512
    assert server.request("GET", f"/v1/models/{MODEL}").json == model


@pytest.mark.parametrize("name", ["gpt-4", "a%2Fb", "a/b", "%FF", ""])
def test_an_unknown_model_is_not_found(server: RuntimeServer, name: str) -> None:
    answer = server.request("GET", f"/v1/models/{name}")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_request_for_an_unknown_model_is_not_found(server: RuntimeServer, path: str) -> None:
    body = {"model": "gpt-4", "messages": HELLO, "prompt": "x"}
    answer = server.request("POST", path, body)
    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")


def test_every_answer_has_an_id_of_ours(server: RuntimeServer) -> None:
    answers = [
        server.request("GET", path, headers={"x-request-id": "mine"})
        for path in ("/health", "/v1/models", "/nowhere")
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    assert all(id.startswith("req_") for id in ids)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model": "tiny",}', "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"x"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"{}", "missing_required_parameter"),
    ],
)
def test_a_body_that_cant_be_read_is_refused(server: RuntimeServer, body: bytes, code: str) -> None:
    answer = server.request("POST", CHAT, body)
    assert answer.status == 400
    assert answer.error["code"] == code
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused(server: RuntimeServer, media: str) -> None:
    answer = server.request("POST", CHAT, b"{}", headers={"content-type": media})
    assert answer.status == 415
    assert media in answer.error["message"]


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_have_parameters(server: RuntimeServer, media: str) -> None:
    answer = server.request("POST", CHAT, b"{}", headers={"content-type": media})
    assert answer.status == 400


@pytest.mark.parametrize("where", ["prompt", "stop", "model", "user", "suffix"])
def test_a_lone_surrogate_is_refused(server: RuntimeServer, where: str) -> None:
    body = {"model": MODEL, "prompt": "x", where: "a\ud800b"}
    answer = server.request("POST", COMPLETION, json.dumps(body).encode())
    assert answer.status == 400
    assert answer.error["param"] == where
    assert "surrogate" in answer.error["message"]


def test_metrics_have_our_names_and_vllms(server: RuntimeServer) -> None:
    server.request("POST", COMPLETION, {"model": MODEL, "prompt": "hello", "max_tokens": 3})
    text = server.request("GET", "/metrics").body.decode()
    for prefix in ("stoker_runtime_", "vllm:"):
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
            assert f'{prefix}{name}{{model_name="{MODEL}"}}' in text
        assert (
            f'{prefix}time_to_first_token_seconds_bucket{{model_name="{MODEL}",le="+Inf"}}' in text
        )
        assert (
            f'{prefix}request_success_total{{model_name="{MODEL}",finished_reason="length"}}'
            in text
        )
    weights = 'startup_phase_seconds{model_name="tiny",phase="weights",path="fresh"}'
    assert f"stoker_runtime_{weights}" in text


def test_refusals_are_counted_by_code(server: RuntimeServer) -> None:
    server.request("GET", "/nowhere")
    name = 'stoker_runtime_refusals_total{model_name="tiny",code="unknown_url"}'
    before = server.metric(name)
    server.request("GET", "/nowhere")
    assert server.metric(name) == before + 1


def test_the_admin_port_has_no_openai_routes(server: RuntimeServer) -> None:
    assert server.request("GET", "/v1/models", admin=True).status == 404
    assert server.request("POST", "/drain").status == 404


def test_draining_by_hand_needs_the_key(server: RuntimeServer) -> None:
    answer = server.request("POST", "/drain", admin=True, headers={"authorization": "Bearer x"})
    assert answer.status == 401


def test_the_version_is_told(server: RuntimeServer) -> None:
    assert server.request("GET", "/version").json["version"]


@pytest.mark.parametrize(
    "body", [{"prompt": "hello world"}, {"messages": HELLO}, {"prompt": "", "model": MODEL}]
)
def test_texts_are_tokenised_and_back(server: RuntimeServer, body: dict[str, Any]) -> None:
    counted = server.request("POST", "/tokenize", body).json
    assert counted["count"] == len(counted["tokens"])
    assert counted["max_model_len"] == 512
    text = server.request("POST", "/detokenize", {"tokens": counted["tokens"]}).json["prompt"]
    wanted = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert text == body.get("prompt", wanted)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [10**9]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1], "model": "x"}, "model"),
    ],
)
def test_wrong_texts_and_ids_are_refused(
    server: RuntimeServer, path: str, body: dict[str, Any], param: str
) -> None:
    answer = server.request("POST", path, body)
    assert answer.status in (400, 404)
    assert answer.error["param"] == param


def test_openais_client_reads_every_route(server: RuntimeServer) -> None:
    with server.client() as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        assert client.models.retrieve(MODEL).object == "model"
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2, n=2
        )
        chat = raw.parse()
        assert raw.headers["x-request-id"].startswith("req_")
        assert [choice.index for choice in chat.choices] == [0, 1]
        assert chat.choices[0].logprobs is not None
        assert len((chat.choices[0].logprobs.content or [])[0].top_logprobs) == 2
        text = client.completions.create(
            model=MODEL, prompt="hello", max_tokens=0, echo=True, logprobs=1
        )
        assert text.choices[0].text == "hello"
        assert text.usage is not None
        assert text.usage.completion_tokens == 0
        with pytest.raises(openai.NotFoundError) as unknown:
            client.embeddings.create(model=MODEL, input="x")
        assert unknown.value.code == "unknown_url"
        with pytest.raises(openai.NotFoundError) as absent:
            client.models.retrieve("other")
        assert absent.value.code == "model_not_found"


def test_openais_stream_helper_puts_the_answer_together(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 6, "temperature": 0}
    with server.client() as client:
        plain = client.chat.completions.create(**fields)
        with client.chat.completions.stream(
            **fields, stream_options={"include_usage": True}
        ) as stream:
            final = stream.get_final_completion()
    assert final.choices[0].message.content == plain.choices[0].message.content
    assert final.choices[0].finish_reason == plain.choices[0].finish_reason
    assert final.usage is not None
    assert plain.usage is not None
    assert final.usage.completion_tokens == plain.usage.completion_tokens


async def test_openais_async_client_asks_many_at_once(server: RuntimeServer) -> None:
    url, key = f"http://127.0.0.1:{server.port}/v1", server.key
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:

        async def ask(word: str) -> str:
            stream = await client.completions.create(
                model=MODEL, prompt=word, max_tokens=5, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].text async for chunk in stream])

        words = ["hello", "one", "two", "fire", "hello"]
        texts = await asyncio.gather(*map(ask, words))
        alone = [
            (await client.completions.create(model=MODEL, prompt=word, max_tokens=5, temperature=0))
            .choices[0]
            .text
            for word in words
        ]
        chat = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
    assert texts == alone
    assert chat.choices[0].message.role == "assistant"
