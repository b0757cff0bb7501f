"""The routes over real sockets, with real runtimes behind them and the real SDK before them."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from stoker_api.tokens import derive_token
from support.fake_runtime import FakeRuntime
from support.fake_watch import make_deployment
from support.gateway import Gateway, running_gateway

MESSAGES = [{"role": "user", "content": "hi"}]


def sdk(gateway: Gateway, **options: object) -> openai.AsyncOpenAI:
    options = {"api_key": "none", "max_retries": 0} | options
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", **options)


async def test_the_sdk_gets_an_answer_and_a_stream() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime, sdk(gateway) as client:
        await gateway.add(runtime)
        whole = await client.chat.completions.create(model="chat", messages=MESSAGES)
        assert whole.choices[0].message.content == "t0 t1 t2 t3 "
        assert whole._request_id
        assert whole._request_id.startswith("req-")
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        pieces = [chunk.choices[0].delta.content async for chunk in stream]
        assert pieces == ["t0 ", "t1 ", "t2 ", "t3 "]


async def test_the_access_log_has_a_line_per_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stoker_gateway.access")
    async with running_gateway(access_log=True) as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            await answer.read()
        async with gateway.ask({"model": "nobody"}) as answer:
            await answer.read()
        async with gateway.session.get(f"{gateway.url}/health"):
            pass
        async with gateway.session.get(f"{gateway.url}/a%0Ab"):
            pass
    lines = [vars(record)["fields"] for record in caplog.records if "fields" in vars(record)]
    told = [(line["method"], line["path"], line["deployment"], line["status"]) for line in lines]
    path = "/v1/chat/completions"
    assert told == [
        ("POST", path, "default/chat", 200),
        ("POST", path, "-", 404),
        ("GET", "/a%0Ab", "-", 404),  # as it was sent: a line of the log stays one line
    ]
    assert all(0 <= line["head_s"] <= line["total_s"] for line in lines)


async def test_without_the_setting_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stoker_gateway.access")
    async with running_gateway() as gateway, gateway.ask({"model": "nobody"}) as answer:
        await answer.read()
    assert not [record for record in caplog.records if record.name == "stoker_gateway.access"]


async def test_the_sdk_sees_sleeping_models_too() -> None:
    async with running_gateway() as gateway, sdk(gateway) as client:
        await gateway.cluster.put("deployments", make_deployment("chat", "other"))
        models = [model async for model in client.models.list()]
        assert [(model.id, model.created, model.owned_by) for model in models] == [
            ("chat", 1795251600, "default"),
            ("other/chat", 1795251600, "other"),
        ]
        one = await client.models.retrieve("other/chat")
        assert (one.id, one.object) == ("other/chat", "model")


async def test_the_sdk_raises_its_own_errors() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime, sdk(gateway) as client:
        await gateway.add(runtime)
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
        assert "`chat`" in unknown.value.message
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-5")
        runtime.behaviour = ["error"]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=MESSAGES)
        assert refused.value.code == "too_long"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/", 404, "unknown_url", None),
        ("GET", "/v1/nonsense", 404, "unknown_url", None),
        ("POST", "/nonsense", 404, "unknown_url", None),
        ("GET", "/internal/demand", 404, "unknown_url", None),
        ("GET", "/metrics", 404, "unknown_url", None),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed", "POST"),
        ("DELETE", "/v1/models/chat", 405, "method_not_allowed", "GET, HEAD"),
        ("POST", "/v1/models", 405, "method_not_allowed", "GET, HEAD"),
        ("PUT", "/health", 405, "method_not_allowed", "GET, HEAD"),
        ("GET", "/v1/models/absent", 404, "model_not_found", None),
    ],
)
async def test_wrong_routes_are_refused_in_the_openai_shape(
    method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with running_gateway() as gateway:
        async with gateway.session.request(method, gateway.url + path) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (status, code)
        assert set(error) == {"message", "type", "param", "code"}
        assert answer.headers.get("allow") == allow


async def test_a_base_url_without_its_end_is_mended_in_the_error() -> None:
    async with running_gateway() as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0)
        async with client:
            with pytest.raises(openai.NotFoundError, match="Did you mean /v1/chat/completions"):
                await client.chat.completions.create(model="chat", messages=MESSAGES)
            with pytest.raises(openai.NotFoundError, match="Did you mean /v1/models"):
                await client.models.list()


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/v1/embeddings", "/v1/rerank?x=1"])
async def test_other_routes_that_name_a_model_are_passed_through(path: str) -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask({"input": "x"}, path) as answer:
            assert answer.status == 200
        assert runtime.paths == [path]
        assert runtime.seen == [{"model": "chat", "input": "x"}]


async def test_namespace_and_name_is_rewritten_to_what_the_runtime_knows() -> None:
    async with running_gateway(deploy=False) as gateway, FakeRuntime() as runtime:
        model = {"source": "pvc://models/chat", "servedName": "llama"}
        await gateway.cluster.put("deployments", make_deployment(spec={"model": model}))
        await gateway.add(runtime)
        async with gateway.ask({"model": "default/chat", "seed": 1}) as answer:
            assert answer.status == 200
        assert runtime.seen == [{"model": "llama", "seed": 1}]


async def test_bodies_reach_the_runtime_byte_for_byte_and_private_headers_do_not() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        headers = {"x-request-id": "theirs", "authorization": "Bearer mine", "cookie": "a=b"}
        headers["traceparent"] = "00-1-2-03"
        async with gateway.session.post(
            f"{gateway.url}/v1/completions", data=b'{ "model" : "chat" }', headers=headers
        ) as answer:
            assert answer.status == 200
        (seen,) = runtime.headers
        assert seen["x-request-id"] == answer.headers["x-request-id"] != "theirs"
        assert seen["traceparent"] == "00-1-2-03"
        assert "cookie" not in seen
        assert "authorization" not in seen
        assert seen["content-length"] == "20"


async def test_clients_need_a_key_when_keys_are_configured(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("right")
    async with running_gateway(api_keys_dir=tmp_path) as gateway, sdk(gateway) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
        assert refused.value.code == "invalid_api_key"
        assert [m.id async for m in client.with_options(api_key="right").models.list()] == ["chat"]
        for path, status in (("/health", 200), ("/ready", 200), ("/v1/nonsense", 401)):
            async with gateway.session.get(gateway.url + path) as answer:
                assert answer.status == status


async def test_internal_routes_need_their_tokens(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    async with running_gateway(internal_key_file=key) as gateway, FakeRuntime() as runtime:
        runtime.token = derive_token(b"secret", "runtime/default/chat")
        assert await gateway.announce("chat-1", "Ready", runtime.address, slots=1) == 401
        wrong = {"authorization": "Bearer " + derive_token(b"secret", "runtime/default/other")}
        assert await gateway.announce("chat-1", "Ready", runtime.address, headers=wrong) == 401
        right = {"authorization": f"Bearer {runtime.token}"}
        assert await gateway.announce("chat-1", "Ready", runtime.address, headers=right) == 204
        async with gateway.ask() as answer:
            assert answer.status == 200
        url = f"{gateway.internal_url}/internal/demand"
        async with gateway.session.get(url) as answer:
            assert answer.status == 401
        operator = {"authorization": "Bearer " + derive_token(b"secret", "demand")}
        async with gateway.session.get(url, headers=operator) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("change", "word"),
    [({"phase": "Sleeping"}, "announcement"), ({"address": "evil.example:80"}, "address")],
)
async def test_a_bad_announcement_is_refused(change: dict[str, str], word: str) -> None:
    said = {"namespace": "default", "deployment": "chat", "pod": "p", "address": "10.0.0.1:8000"}
    async with running_gateway() as gateway:
        url = f"{gateway.internal_url}/internal/announce"
        body = said | {"phase": "Ready"} | change
        async with gateway.session.post(url, json=body) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "invalid_announcement")
        assert word in error["message"]
        async with gateway.session.get(url) as answer:
            assert answer.status == 405


async def test_the_internal_port_has_health_readiness_and_metrics() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            await answer.read()
        async with gateway.ask({"model": "x"}) as answer:
            await answer.read()
        for path in ("/health", "/ready"):
            async with gateway.session.get(gateway.internal_url + path) as answer:
                assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        async with gateway.session.get(gateway.internal_url + "/metrics") as answer:
            text = await answer.text()
        assert 'stoker_gateway_requests_total{code="200",deployment="default/chat"} 1.0' in text
        assert 'stoker_gateway_requests_total{code="404",deployment=""} 1.0' in text
        assert 'stoker_gateway_pods{deployment="default/chat"} 1.0' in text


PAGE = "https://chat.example.com"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


async def test_pages_of_an_allowed_origin_may_ask_and_read_errors_too(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    settings = {"allowed_origins": PAGE, "api_keys_dir": tmp_path}
    async with running_gateway(**settings) as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        url = f"{gateway.url}/v1/chat/completions"
        async with gateway.session.options(url, headers=ASKED) as answer:
            assert answer.status == 204
            assert (
                answer.headers["access-control-allow-headers"]
                == ASKED["access-control-request-headers"]
            )
            assert answer.headers["access-control-allow-origin"] == PAGE
        for key, status in (("secret", 200), ("guessed", 401)):
            headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
            async with gateway.session.post(url, json={"model": "chat"}, headers=headers) as answer:
                assert answer.status == status
                assert answer.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("allowed", ["", "https://other.example.com"])
async def test_pages_of_other_origins_are_not_let_in(allowed: str) -> None:
    async with running_gateway(allowed_origins=allowed) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        async with gateway.session.options(url, headers=ASKED) as answer:
            assert answer.status == 405
            assert "access-control-allow-origin" not in answer.headers


async def test_is_not_ready_before_the_cluster_was_listed() -> None:
    async with running_gateway() as gateway:
        gateway.worker.backends._started = False
        async with gateway.session.get(gateway.internal_url + "/ready") as answer:
            assert answer.status == 503
        async with gateway.session.get(gateway.internal_url + "/health") as answer:
            assert answer.status == 200
