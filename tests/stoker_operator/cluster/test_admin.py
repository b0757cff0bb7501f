"""The client of admin ports against a real server: keys, answers, silence, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from stoker_operator.cluster import admin
from stoker_operator.cluster.admin import Answer, Call, HttpAdminPorts
from stoker_operator.errors import LeaseLost, RuntimeGone, RuntimeSilent


async def _state(request: web.Request) -> web.Response:
    return web.json_response({"key": request.headers.get("Authorization"), "is": request.method})


async def _load(request: web.Request) -> web.Response:
    return web.json_response(await request.json(), status=422)


async def _text(_: web.Request) -> web.Response:
    return web.Response(text="[1]")


async def _hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def _break(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A small admin port."""
    app = web.Application()
    app.router.add_get("/state", _state)
    for path, handler in (("load", _load), ("text", _text), ("hang", _hang), ("break", _break)):
        app.router.add_post(f"/{path}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


@pytest.fixture
async def ports(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpAdminPorts]:
    """The client, with little patience."""
    monkeypatch.setattr(admin, "ANSWER_S", 0.3)
    client = HttpAdminPorts(lambda: True)
    yield client
    await client.close()


async def test_state_is_read_and_orders_are_posted_with_the_key(
    ports: HttpAdminPorts, address: str
) -> None:
    answer = await ports.call(Call(address, "/state", "k"))
    assert answer == Answer(200, {"key": "Bearer k", "is": "GET"})
    assert (await ports.call(Call(address, "/state"))).body["key"] is None
    assert await ports.call(Call(address, "/load", "k", '{"a": 1}')) == Answer(422, {"a": 1})
    assert (await ports.call(Call(address, "/load"))).body == {}


async def test_an_answer_that_is_no_object_is_an_empty_one(
    ports: HttpAdminPorts, address: str
) -> None:
    assert await ports.call(Call(address, "/text")) == Answer(200, {})
    assert await ports.call(Call(address, "/none")) == Answer(404, {})


async def test_silence_is_told_apart_from_nobody(ports: HttpAdminPorts, address: str) -> None:
    with pytest.raises(RuntimeSilent):
        await ports.call(Call(address, "/hang"))
    with pytest.raises(RuntimeGone):
        await ports.call(Call(address, "/break"))
    with pytest.raises(RuntimeGone):
        await ports.call(Call("127.0.0.1:1", "/state"))


async def test_a_process_that_does_not_lead_orders_nothing(address: str) -> None:
    with pytest.raises(LeaseLost):
        await HttpAdminPorts(lambda: False).call(Call(address, "/load"))


async def test_a_key_is_in_no_printed_call() -> None:
    await HttpAdminPorts(lambda: True).close()
    assert "secret" not in repr(Call("a", "/load", "secret", '{"token": "secret"}'))
