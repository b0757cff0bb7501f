"""The gateway's routes, over real sockets, with real runtimes behind them."""

from __future__ import annotations

from support.fake_runtime import FakeRuntime
from support.gateway import running_gateway


async def test_streams_an_answer_from_a_ready_pod() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask({"stream": True}) as answer:
            text = await answer.text()
        assert answer.status == 200
        assert text.count("data: ") == 5
        assert text.endswith("data: [DONE]\n\n")
        assert answer.headers["x-request-id"].startswith("req-")
