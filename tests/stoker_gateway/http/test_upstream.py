"""The client side against raw sockets that frame, stall, split and break answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.reply import Headers
from stoker_gateway.http.upstream import Pool, Pools

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Listener:
    """A sink that writes down what it hears."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    end: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_end(self) -> None:
        self.end = "end"
        self.done.set()

    def on_lost(self) -> None:
        self.end = "lost"
        self.done.set()


@asynccontextmanager
async def pool_to(script: Script) -> AsyncIterator[Pool]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Pool("{}:{}".format(*server.sockets[0].getsockname()), connect_timeout_s=1)
    try:
        yield pool
    finally:
        pool.close()
        server.close()


def answering(*answers: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        await reader.read()

    return script


async def ask(pool: Pool) -> Listener:
    listener = Listener()
    connection = pool.take_idle() or await pool.connect()
    connection.send(REQUEST, listener)
    await asyncio.wait_for(listener.done.wait(), 2)
    return listener


async def test_hears_head_body_and_end_and_reuses_the_connection() -> None:
    async with pool_to(answering(OK, OK.replace(b"ok", b"no"))) as pool:
        first = await ask(pool)
        assert (first.status, first.pieces, first.end) == (200, [b"ok"], "end")
        assert (b"content-length", b"2") in first.headers
        connection = pool.take_idle()
        assert connection
        assert connection.used
        pool.give_back(connection)
        assert (await ask(pool)).pieces == [b"no"]


async def test_chunks_of_one_read_come_as_one_piece() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with pool_to(answering(chunked)) as pool:
        assert (await ask(pool)).pieces == [b"abcde"]


async def test_an_interim_answer_is_not_the_answer() -> None:
    async with pool_to(answering(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)) as pool:
        listener = await ask(pool)
        assert (listener.status, listener.pieces) == (200, [b"ok"])
        assert listener.headers == [(b"content-length", b"2")]


async def test_an_answer_without_length_ends_with_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with pool_to(script) as pool:
        listener = await ask(pool)
        assert (b"".join(listener.pieces), listener.end) == (b"all of it", "end")
        assert pool.take_idle() is None


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"", 0, id="before the first byte"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-le", 0, id="within the head"),
        pytest.param(OK.replace(b": 2", b": 9"), 200, id="within the body"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", 0, id="with another protocol"),
    ],
)
async def test_an_answer_that_breaks_off_is_lost(answer: bytes, status: int) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with pool_to(script) as pool:
        listener = await ask(pool)
        assert (listener.end, listener.status) == ("lost", status)
        assert pool.take_idle() is None


async def test_an_end_without_an_answer_is_a_loss_whatever_was_answered_before() -> None:
    """An answer of neither length nor body must not pass as one that ends with the connection."""
    nothing = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(nothing)
        await reader.readuntil(b"\r\n\r\n")

    async with pool_to(once) as pool:
        first = await ask(pool)
        assert (first.status, first.end) == (204, "end")
        second = await ask(pool)
        assert (second.status, second.end) == (0, "lost")


async def test_a_connection_that_the_pod_closed_while_idle_is_not_lent() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    async with pool_to(script) as pool:
        await ask(pool)
        await asyncio.sleep(0.02)
        assert pool.take_idle() is None


async def test_a_pod_that_says_close_is_asked_on_a_new_connection() -> None:
    async with pool_to(
        answering(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    ) as pool:
        await ask(pool)
        assert pool.take_idle() is None


async def test_abort_is_seen_by_the_pod_at_once() -> None:
    gone = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await reader.read()
        finally:
            gone.set()

    async with pool_to(script) as pool:
        listener = Listener()
        connection = await pool.connect()
        connection.send(REQUEST, listener)
        await asyncio.sleep(0.01)
        connection.abort()
        await asyncio.wait_for(gone.wait(), 1)
        assert listener.end == ""


async def test_a_paused_connection_reads_on_after_resume() -> None:
    async with pool_to(answering(OK)) as pool:
        listener = Listener()
        connection = await pool.connect()
        connection.pause()
        connection.send(REQUEST, listener)
        await asyncio.sleep(0.05)
        assert listener.end == ""
        connection.resume()
        await asyncio.wait_for(listener.done.wait(), 1)


async def test_a_connection_paused_by_its_last_piece_serves_the_next_request() -> None:
    async with pool_to(answering(OK, OK)) as pool:
        connection = await pool.connect()
        listener = Listener()
        listener.on_body = lambda data: connection.pause()
        connection.send(REQUEST, listener)
        await asyncio.wait_for(listener.done.wait(), 1)
        assert (await ask(pool)).pieces == [b"ok"]


@pytest.mark.parametrize("listening", [False, True], ids=["refused", "no answer in time"])
async def test_connect_failures_are_named(listening: bool) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen(0)
            fill = [socket.socket() for _ in range(3)]
            for each in fill:
                each.setblocking(False)
                each.connect_ex(sock.getsockname())
        pool = Pool("{}:{}".format(*sock.getsockname()), connect_timeout_s=0.1)
        with pytest.raises(UpstreamError, match="connect"):
            await pool.connect()
        for each in fill if listening else []:
            each.close()


async def test_a_dropped_address_closes_its_idle_connections() -> None:
    async with pool_to(answering(OK)) as pool:
        pools = Pools(connect_timeout_s=1)
        await ask(pools[f"{pool._host}:{pool._port}"])
        mine = pools[f"{pool._host}:{pool._port}"]
        connection = mine.take_idle()
        assert connection
        mine.give_back(connection)
        pools.drop(f"{pool._host}:{pool._port}")
        await asyncio.sleep(0)
        assert connection.closing
        pools.drop("10.0.0.1:8000")
        pools.close()


async def test_two_answers_to_one_request_make_a_connection_unusable() -> None:
    async with pool_to(answering(OK + OK.replace(b"ok", b"no"))) as pool:
        listener = await ask(pool)
        assert (listener.pieces, listener.end) == ([b"ok"], "end")
        assert pool.take_idle() is None


async def test_an_answer_that_nobody_asked_for_makes_a_connection_unusable() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await reader.read()

    async with pool_to(script) as pool:
        await ask(pool)
        [connection] = pool._idle
        async with asyncio.timeout(5):
            while not connection.closing:
                await asyncio.sleep(0.005)
        assert pool.take_idle() is None


async def test_a_port_beyond_all_ports_is_a_connect_failure() -> None:
    with pytest.raises(UpstreamError, match="connect"):
        await Pool("127.0.0.1:99999", 1).connect()
