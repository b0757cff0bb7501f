"""A worker's end: it drains, and loses nobody."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from support.fake_runtime import FakeRuntime
from support.gateway import running_gateway, until


async def test_while_draining_it_is_not_ready_but_answers() -> None:
    async with running_gateway(drain_accept_s=0.3) as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        draining = asyncio.create_task(gateway.worker.drain())
        await asyncio.sleep(0.01)
        async with gateway.session.get(f"{gateway.internal_url}/ready") as answer:
            assert answer.status == 503
        async with aiohttp.ClientSession() as late, late.get(f"{gateway.url}/health") as answer:
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
        async with gateway.ask() as answer:
            assert answer.status == 200
        await asyncio.wait_for(draining, 2)


async def test_held_requests_are_answered_after_the_listener_is_closed() -> None:
    async with running_gateway(drain_accept_s=0.02) as gateway, FakeRuntime() as runtime:
        asking = asyncio.create_task(gateway.ask({"stream": True}).__aenter__())
        await until(lambda: gateway.worker.public.num_running == 1)
        draining = asyncio.create_task(gateway.worker.drain())
        await asyncio.sleep(0.1)
        assert not draining.done()
        await gateway.add(runtime)
        answer = await asyncio.wait_for(asking, 2)
        assert (await answer.text()).endswith("data: [DONE]\n\n")
        await asyncio.wait_for(draining, 2)


async def test_demand_is_told_until_the_last_answer() -> None:
    async with running_gateway(drain_accept_s=0.02) as gateway, FakeRuntime() as runtime:
        stream = gateway.demand()
        await anext(stream)
        asking = asyncio.create_task(gateway.ask().__aenter__())
        assert (await anext(stream))["queued"] == 1
        draining = asyncio.create_task(gateway.worker.drain())
        await asyncio.sleep(0.05)
        await gateway.add(runtime)
        assert (await asking).status == 200
        await draining
        lines = []
        while not lines or lines[-1].get("running") != 0 or lines[-1].get("queued") != 0:
            lines.append(await asyncio.wait_for(anext(stream), 1))
        assert any(line["kind"] == "announce" for line in lines)


async def test_at_the_drain_deadline_everybody_gets_an_error_of_the_right_shape() -> None:
    gate = asyncio.Event()
    settings = {"drain_accept_s": 0, "drain_deadline_s": 0.1}
    async with running_gateway(**settings) as gateway, FakeRuntime(slots=1, gate=gate) as runtime:
        held = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: gateway.worker.public.num_running == 1)
        await gateway.worker.drain()
        answer = await asyncio.wait_for(held, 1)
        error = json.loads(await answer.text())["error"]
        assert (answer.status, error["code"]) == (503, "gateway_shutting_down")
        assert answer.headers["retry-after"] == "1"
        assert not runtime.seen


async def test_a_stream_cut_by_the_drain_deadline_says_so() -> None:
    settings = {"drain_accept_s": 0, "drain_deadline_s": 0.1}
    async with (
        running_gateway(**settings) as gateway,
        FakeRuntime(num_tokens=1000, pause_s=0.01) as runtime,
    ):
        await gateway.add(runtime)
        async with gateway.ask({"stream": True}) as answer:
            await gateway.worker.drain()
            text = await answer.text()
        assert '"code": "gateway_shutting_down"' in text
        assert text.endswith("data: [DONE]\n\n")
        await until(lambda: runtime.num_running == 0)


async def test_the_end_waits_for_clients_that_still_read_their_answers() -> None:
    long = "x" * (16 << 20)  # more than the sockets' buffers take
    async with running_gateway(drain_accept_s=0, drain_deadline_s=30) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(f"GET /{long[:100]} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await reader.readuntil(b"}}")
        [connection] = gateway.worker.public.connections
        connection._transport.write(long.encode())
        draining = asyncio.create_task(gateway.worker.drain())
        await asyncio.sleep(0.2)
        assert not draining.done()
        assert len(await asyncio.wait_for(reader.read(), 10)) == len(long)
        await asyncio.wait_for(draining, 2)
        writer.close()
