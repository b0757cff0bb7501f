"""HTTP/1.1 as clients of every kind send it: well, badly, slowly, too much, or not to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stoker_runtime.server.connection import HttpServer, Limits
from stoker_runtime.server.exchange import Exchange, Request
from stoker_runtime.server.refusal import Refusal, invalid, unauthorized

LIMITS = Limits(
    header_bytes=1000,
    body_bytes=100_000,
    head_s=0.3,
    body_s=0.3,
    keep_alive_s=0.3,
    stalled_s=0.3,
    linger_s=0.3,
)


class Echo:
    """Answers with what it got; paths ask for misbehaviour."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.bodies: list[bytes] = []

    def screen(self, request: Request) -> Refusal | None:
        return unauthorized(False) if request.path == "/locked" else None

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        self.bodies.append(bytes(request.body))
        match request.path:
            case "/stream":
                exchange.begin()
                exchange.write(b"one ")
                await asyncio.sleep(0)
                exchange.write(b"two ")
                exchange.end(b"three")
            case "/flood":
                exchange.begin()
                for _ in range(200):
                    exchange.write(b"x" * 100_000)
                await self._wait()
            case "/big":
                exchange.send(200, bytes(16 << 20))
            case "/wait":
                await self._wait()
            case "/refuse":
                raise invalid("no", "field")
            case "/bug":
                raise ZeroDivisionError
            case "/late-bug":
                exchange.begin()
                exchange.write(b"begun")
                raise ZeroDivisionError
            case _:
                exchange.send(200, request.method.encode() + b" " + bytes(request.body))

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Running:
    """A server on a loopback port."""

    def __init__(self, app: Echo, http: HttpServer, port: int) -> None:
        self.app, self.http, self.port = app, http, port

    async def send(self, *parts: bytes, pause_s: float = 0.0) -> bytes:
        """Send and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause_s)
        received = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return received


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    app = Echo()
    http = HttpServer(app, LIMITS)
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    yield Running(app, http, server.sockets[0].getsockname()[1])
    server.close()
    for connection in list(http.connections):
        connection.close()
    await asyncio.sleep(0.01)


def get(path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: x", *headers, "", ""]).encode()


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    length = f"content-length: {len(body)}"
    return (
        "\r\n".join([f"POST {path} HTTP/1.1", "host: x", length, *headers, "", ""]).encode() + body
    )


CLOSE = "connection: close"
OFFER = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAA")


async def test_a_request_is_answered_with_its_length(running: Running) -> None:
    head, _, body = (await running.send(post(b"hello", CLOSE))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 10" in head
    assert b"connection: close" in head
    assert body == b"POST hello"


async def test_a_request_may_come_byte_by_byte(running: Running) -> None:
    parts = [bytes([byte]) for byte in post(b"hi", CLOSE)]
    assert (await running.send(*parts)).endswith(b"POST hi")


async def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    answers = await running.send(post(b"1"), post(b"2") + get("/stream") + post(b"3", CLOSE))
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    places = [answers.index(text) for text in (b"POST 1", b"POST 2", b"three", b"POST 3")]
    assert places == sorted(places)


async def test_head_has_no_body(running: Running) -> None:
    answer = await running.send(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"content-length: 5" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_stream_is_chunked(running: Running) -> None:
    head, _, body = (await running.send(get("/stream", CLOSE))).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"cache-control: no-cache" in head
    assert body == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_stream_of_http_1_0_ends_with_the_connection(running: Running) -> None:
    answer = await running.send(get("/stream", "connection: keep-alive", version="1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"one two three"


async def test_a_chunked_body_is_read(running: Running) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\nauthorization: x\r\n\r\n"
    assert (await running.send(head + chunks)).endswith(b"POST abcde")


async def test_a_client_that_asks_first_is_told_to_go_on(running: Running) -> None:
    whole = post(b"body", CLOSE, "expect: 100-continue")
    answer = await running.send(whole[:-4], whole[-4:], pause_s=0.05)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_a_client_that_asks_first_hears_the_refusal_instead(running: Running) -> None:
    answer = await running.send(post(b"", "expect: 100-continue", path="/locked"))
    assert answer.startswith(b"HTTP/1.1 401")


async def test_a_refused_small_body_leaves_the_connection_open(running: Running) -> None:
    answer = await running.send(post(b"x" * 500, path="/locked") + post(b"next", CLOSE))
    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.endswith(b"POST next")
    assert running.app.bodies == [b"next"]


async def test_an_announced_large_body_is_refused_before_it_comes(running: Running) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000000\r\n\r\n"
    answer = await asyncio.wait_for(running.send(head), 1)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"request_too_large"' in answer
    assert running.app.bodies == []


async def test_an_unannounced_large_body_is_refused_when_it_is_too_large(running: Running) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"c350\r\n" + b"x" * 50_000 + b"\r\n"
    answer = await running.send(head, chunk, chunk, chunk, pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("num_headers", [1, 50])
async def test_large_headers_are_refused(running: Running, num_headers: int) -> None:
    lines = [f"x-{number}: {'y' * (1200 // num_headers)}" for number in range(num_headers)]
    assert (await running.send(get("/", *lines))).startswith(b"HTTP/1.1 431")


async def test_an_endless_header_is_refused_before_it_ends(running: Running) -> None:
    answer = await running.send(b"GET / HTTP/1.1\r\nx: ", b"y" * 600, b"y" * 600, pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELLO\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["tls", "text", "http/2", "name", "negative", "two lengths", "both lengths", "no host"],
)
async def test_what_is_no_http_is_refused_and_closed(running: Running, data: bytes) -> None:
    answer = await running.send(data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert b'"code":"bad_http"' in answer
    assert running.app.bodies == []


async def test_nonsense_after_a_request_does_not_spoil_its_answer(running: Running) -> None:
    assert (await running.send(post(b"1") + b"\x00\x00\x00")).endswith(b"POST 1")


@pytest.mark.parametrize("begun", [b"GET / HT", post(b"hello")[:-3], post(b"hello")[:-5]])
async def test_a_request_that_never_ends_is_timed_out(running: Running, begun: bytes) -> None:
    answer = await asyncio.wait_for(running.send(begun), 2)
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_silent_connection_is_closed(running: Running) -> None:
    assert await asyncio.wait_for(running.send(b""), 2) == b""
    assert (await asyncio.wait_for(running.send(post(b"1")), 2)).endswith(b"POST 1")


async def test_an_upgrade_is_answered_in_http_1_1(running: Running) -> None:
    answer = await running.send(get("/", *OFFER, CLOSE))
    assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("cut", [60, 10_000])
async def test_the_body_behind_an_upgrade_is_read(running: Running, cut: int) -> None:
    """Java's client and `curl --http2` wish for HTTP/2 with every first request."""
    chunked = get("/", *OFFER, "transfer-encoding: chunked").replace(b"GET", b"POST")
    requests = [
        post(b"hello", *OFFER),
        chunked + b"5\r\nworld\r\n0\r\n\r\n",
        post(b"x", *OFFER, path="/locked"),
        post(b"last", CLOSE),
    ]
    sent = b"".join(requests)
    await running.send(sent[:cut], sent[cut:], pause_s=0.01)
    assert running.app.bodies == [b"hello", b"world", b"last"]


async def test_any_number_of_upgrades_is_declined(running: Running) -> None:
    answers = await running.send(get("/", *OFFER) * 500 + get("/", CLOSE))
    assert answers.count(b"HTTP/1.1 200 OK") == 501


async def test_a_tunnel_is_not_opened(running: Running) -> None:
    answer = await running.send(b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\n")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("flood", [b"0\r\nx: ", b"0\r\n", b"2;x="], ids=["one", "many", "chunk"])
async def test_what_follows_the_body_is_bounded_as_the_head_is(
    running: Running, flood: bytes
) -> None:
    head = get("/", "transfer-encoding: chunked").replace(b"GET", b"POST") + b"2\r\nhi\r\n"
    more = (b"x: y\r\n" if flood.endswith(b"\n") else b"y" * 6) * 100
    answer = await running.send(head + flood, more, more, more, pause_s=0.01)
    assert answer.startswith(b"HTTP/1.1 431")
    assert not running.app.bodies


async def test_a_hang_up_cancels_the_answer(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(get("/wait"))
    await asyncio.sleep(0.05)
    assert running.http.num_active == 1
    writer.close()
    await asyncio.sleep(0.05)
    assert (running.app.cancelled, running.http.num_active) == (1, 0)
    assert not running.http.connections
    del reader


async def test_a_hang_up_cancels_the_last_of_several_requests(running: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(post(b"1") + get("/wait"))
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.05)
    assert (running.app.cancelled, running.http.num_active) == (1, 0)


async def test_a_request_with_a_bug_at_the_door_is_a_500(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.app, "screen", lambda request: 1 / 0)
    assert (await running.send(get("/"))).startswith(b"HTTP/1.1 500")
    assert "ZeroDivisionError" in caplog.text


async def test_a_client_that_never_reads_is_cut(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(get("/flood"))
    while not running.app.cancelled:
        await asyncio.sleep(0.01)
    assert not running.http.connections
    writer.close()
    del reader


async def test_a_last_answer_that_is_never_read_is_cut(running: Running) -> None:
    """Also one that is too short to count as a reader's delay."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    await asyncio.sleep(0.01)
    [connection] = running.http.connections
    connection._transport.set_write_buffer_limits(1 << 30)
    writer.transport.pause_reading()
    writer.write(get("/big", CLOSE))
    while not running.app.bodies:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while running.http.connections:
            await asyncio.sleep(0.01)
    writer.close()
    del reader


async def test_a_refusal_is_an_answer(running: Running) -> None:
    answer = await running.send(get("/refuse", CLOSE))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(
        b'{"error":{"message":"no","type":"invalid_request_error","param":"field",'
        b'"code":"invalid_value"}}'
    )


async def test_a_bug_is_a_500_that_tells_nothing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await running.send(get("/bug", CLOSE))
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"Zero" not in answer
    assert "ZeroDivisionError" in caplog.text


async def test_a_bug_in_a_stream_breaks_it_off(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await running.send(get("/late-bug"))
    assert answer.endswith(b"5\r\nbegun\r\n")
    assert "ZeroDivisionError" in caplog.text


async def test_while_closing_every_answer_is_the_last_one(running: Running) -> None:
    running.http.closing = True
    assert b"connection: close" in await running.send(post(b"1"))
