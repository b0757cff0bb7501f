"""Small requests answered as a whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.fetch import fetch
from stoker_gateway.http.upstream import Pool
from support.fake_runtime import FakeRuntime


async def test_returns_status_and_body() -> None:
    async with FakeRuntime(slots=3) as runtime:
        answer = await fetch(Pool(runtime.address, 1), b"GET /ready\r\n", b"", 1)
        assert answer == (200, b'{"slots": 3}')


async def test_sends_headers_and_body() -> None:
    async with FakeRuntime() as runtime:
        head = b"POST /x\r\ncontent-type: application/json\r\nx-mark: 1\r\n"
        status, _ = await fetch(Pool(runtime.address, 1), head, b'{"a": 1}', 1)
        assert (status, runtime.seen) == (200, [{"a": 1}])
        assert runtime.headers[0]["x-mark"] == "1"


async def test_gives_up_after_the_timeout() -> None:
    async with FakeRuntime(gate=asyncio.Event()) as runtime:
        with pytest.raises(UpstreamError, match="timeout"):
            await fetch(Pool(runtime.address, 1), b"POST /x\r\n", b"{}", 0.05)


async def test_a_broken_answer_is_an_error() -> None:
    async with FakeRuntime(behaviour=["close"]) as runtime:
        with pytest.raises(UpstreamError, match="closed"):
            await fetch(Pool(runtime.address, 1), b"POST /x\r\n", b"{}", 1)


class _OneAnswer:
    """A pool whose only connection hands out who waits for the answer."""

    def __init__(self) -> None:
        self.sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def connect(self) -> _OneAnswer:
        return self

    def send(self, data: bytes, receiver: Any) -> None:
        self.sent.set_result(receiver)

    def abort(self) -> None:
        pass


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    """A courier that is stopped at that moment would run on, and its worker never end."""
    pool: Any = _OneAnswer()
    task = asyncio.create_task(fetch(pool, b"POST /x\r\n", b"{}", 1))
    whole = await pool.sent
    await asyncio.sleep(0)
    whole.on_end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
