"""A client's connection, byte by byte: framing, limits, hang-ups, pipelining, refusals."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from stoker_gateway.http import server as server_module
from stoker_gateway.http.connection import NEVER, Connection
from stoker_gateway.http.server import Limits, Server
from support.echo_server import CLOSE, LIMITS, Echo, Wire, connected, get, post
from support.gateway import until


@pytest.fixture(autouse=True)
def _sweep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SWEEP_S", 0.02)


async def test_answers_with_length_date_and_our_request_id_and_keeps_the_connection() -> None:
    async with connected() as client:
        await client.send(post("/", b"hello", "X-Request-Id: theirs"))
        first = await client.read_until(b"POST hello")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 10\r\n" in first
        assert b"\r\ndate: " in first
        assert b"x-request-id: req-" in first
        assert b"theirs" not in first
        assert b"connection: close" not in first
        await client.send(get("/"))
        assert await client.read_until(b"GET ")


async def test_streams_in_chunks_to_http_1_1() -> None:
    async with connected() as client:
        await client.send(get("/stream"))
        answer = await client.read_until(b"0\r\n\r\n")
        assert b"transfer-encoding: chunked" in answer
        assert answer.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection() -> None:
    async with connected() as client:
        await client.send(get("/stream", "Connection: keep-alive", version="1.0"))
        answer = await client.read_all()
        assert b"chunked" not in answer
        assert b"connection: close" in answer
        assert answer.endswith(b"\r\n\r\nonetwo")


async def test_head_gets_the_head_of_get() -> None:
    async with connected() as client:
        await client.send(get("/").replace(b"GET", b"HEAD"))
        answer = await client.read_until(b"\r\n\r\n")
        assert b"content-length: 5" in answer
        await client.send(get("/", "Connection: close"))
        assert (await client.read_all()).startswith(b"HTTP/1.1 200")


async def test_reads_a_body_in_chunks_and_pieces() -> None:
    async with connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"3\r\nabc\r\n", b"4\r\nd", b"efg\r\n", b"0\r\n\r\n"):
            await client.send(piece)
            await asyncio.sleep(0.005)
        assert await client.read_until(b"POST abcdefg")
        assert client.server.buffered_bytes == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with connected() as client:
        await client.send(get("/wait") + post("/", b"second") + get("/stream", "Connection: close"))
        await asyncio.sleep(0.02)
        assert len(client.app.seen) == 1
        client.app.gate.set()
        answer = await client.read_all()
        assert answer.index(b"waited") < answer.index(b"POST second") < answer.index(b"two")


async def test_says_continue_when_asked_before_the_body() -> None:
    async with connected() as client:
        head, body = post("/", b"hello", "Expect: 100-continue").split(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert await client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(body)
        assert await client.read_until(b"POST hello")


async def test_an_announced_body_beyond_the_limit_is_refused_before_it_is_sent() -> None:
    async with connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000000\r\n\r\n")
        answer = await client.read_until(b"}}")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code": "request_too_large"' in answer
        assert b"connection: close" in answer
        assert client.app.seen == []
        assert client.app.ended_with == [413]


async def test_a_client_that_sends_on_after_a_refusal_can_still_read_it() -> None:
    async with connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            await client.send(b"x" * 100_000)
        assert (await client.read_all()).startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_beyond_the_limit_is_refused_when_it_passes_it() -> None:
    async with connected() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await client.send(b"30000\r\n" + b"x" * 196608 + b"\r\n")
        assert b"413" in await client.read_until(b"\r\n")
        await client.read_all()
        assert client.server.buffered_bytes == 0


async def test_bodies_of_all_clients_together_are_bounded() -> None:
    limits = Limits(200_000, 250_000, client_timeout_s=30, keep_alive_s=30)
    async with connected(limits) as client:
        await client.send(post("/wait", b"x" * 150_000))
        await asyncio.sleep(0.05)
        port = client.writer.get_extra_info("peername")[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/", b"x" * 150_000))
        answer = await reader.readuntil(b"}}")
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in answer
        writer.close()


async def test_a_small_refused_request_keeps_its_connection() -> None:
    async with connected() as client:
        await client.send(post("/secret", b"hello"))
        answer = await client.read_until(b"}}")
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" not in answer
        await client.send(get("/"))
        assert await client.read_until(b"GET ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"NONSENSE\r\n\r\n", b"400", id="no HTTP"),
        pytest.param(get("/").replace(b"1.1", b"9.9"), b"400", id="unknown version"),
        pytest.param(get("/", CLOSE).replace(b"1.1", b"2.0"), b"400", id="HTTP/2 in plain words"),
        pytest.param(get("/", CLOSE).replace(b"Host: x\r\n", b""), b"400", id="no host"),
        pytest.param(b"\x16\x03\x01\x02\x00" * 3, b"400", id="TLS on a plain port"),
        pytest.param(post("/", b"").replace(b": 0", b": -1"), b"400", id="negative length"),
        pytest.param(get("/", "X: " + "y" * 70_000)[:-2], b"431", id="endless header"),
    ],
)
async def test_refuses_broken_requests(request_bytes: bytes, status: bytes) -> None:
    async with connected() as client:
        await client.send(request_bytes)
        answer = await client.read_all()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b'"error": {"message"' in answer
        assert client.app.seen == []


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")


@pytest.mark.parametrize("cut", [60, 10_000])
async def test_an_upgrade_is_declined_and_its_request_answered_with_its_body(cut: int) -> None:
    """As Java's client and `curl --http2` ask it of every server, with the body behind it."""
    chunked = get("/", *UPGRADE, "Transfer-Encoding: chunked").replace(b"GET", b"POST")
    requests = [
        get("/", *UPGRADE),
        post("/", b"hello", *UPGRADE),
        chunked + b"5\r\nworld\r\n0\r\n\r\n",
        post("/secret", b"x", *UPGRADE),
        post("/", b"last"),
    ]
    sent = b"".join(requests)
    async with connected() as client:
        await client.send(sent[:cut])
        await asyncio.sleep(0.02)
        await client.send(sent[cut:])
        await client.read_until(b"POST last")
        assert [one.body for one in client.app.seen] == [b"", b"hello", b"world", b"last"]


async def test_any_number_of_upgrades_is_declined() -> None:
    async with connected() as client:
        await client.send(get("/", *UPGRADE) * 500 + get("/", CLOSE))
        assert (await client.read_all()).count(b"HTTP/1.1 200 OK") == 501


async def test_a_tunnel_is_refused() -> None:
    async with connected() as client:
        await client.send(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\nsecrets")
        assert b"connection: close" in await client.read_all()
        assert [one.body for one in client.app.seen] == [b""]


CHUNK = get("/", "Transfer-Encoding: chunked").replace(b"GET", b"POST") + b"2\r\nhi\r\n"


async def test_trailers_do_not_become_headers() -> None:
    async with connected() as client:
        await client.send(CHUNK + b"0\r\nAuthorization: Bearer x\r\n\r\n")
        await client.read_until(b"POST hi")
        assert b"authorization" not in client.app.seen[0].headers


@pytest.mark.parametrize("flood", [b"0\r\nx: ", b"0\r\n", b"2;x="], ids=["one", "many", "chunk"])
async def test_what_follows_the_body_is_bounded_as_the_head_is(flood: bytes) -> None:
    async with connected() as client:
        more = b"x: y\r\n" if flood.endswith(b"\n") else b"y" * 6
        await client.send(CHUNK + flood + more * 50_000)
        assert (await client.read_all()).startswith(b"HTTP/1.1 431 ")
        assert not client.app.seen


async def test_answered_bodies_no_longer_count_however_long_requests_are_pipelined() -> None:
    server = Server(Echo(), LIMITS)
    connection = Connection(server)
    connection.connection_made(Wire())
    connection.data_received(post("/", bytes(10_000)))
    for _ in range(20):  # each comes while the one before waits
        connection.data_received(post("/", bytes(10_000)))
        await asyncio.sleep(0)
        assert server.buffered_bytes <= 20_000


async def test_a_hang_up_cancels_the_answer_at_once() -> None:
    async with connected() as client:
        await client.send(get("/wait"))
        await asyncio.sleep(0.02)
        client.writer.close()
        await asyncio.sleep(0.02)
        assert client.app.num_cancelled == 1
        assert client.app.ended_with == [499]
        assert client.server.num_running == 0
        assert not client.server.connections


async def test_a_client_that_only_stops_sending_counts_as_gone() -> None:
    async with connected() as client:
        await client.send(get("/wait"))
        await asyncio.sleep(0.02)
        client.writer.write_eof()
        await asyncio.sleep(0.02)
        assert client.app.num_cancelled == 1


@pytest.mark.parametrize("path", ["/crash", "/unjudged"])
async def test_a_crash_is_a_500_in_the_openai_shape(
    caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async with connected() as client:
        await client.send(get(path))
        answer = await client.read_until(b"}}")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b'"code": "internal_error"' in answer
        assert b"oops" not in answer
        assert "oops" in caplog.text


async def test_an_error_after_the_head_becomes_the_last_event() -> None:
    async with connected() as client:
        await client.send(get("/half"))
        answer = await client.read_until(b"0\r\n\r\n")
        assert b'data: {"error": {"message": "half way"' in answer
        assert b"data: [DONE]\n\n" in answer


@pytest.mark.parametrize("path", ["/torn", "/short"])
async def test_an_error_inside_an_event_or_a_plain_body_cuts_the_connection(path: str) -> None:
    """Or it would be read as a part of them."""
    async with connected() as client:
        await client.send(get(path))
        answer = await client.read_all()
        assert b"half way" not in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_a_slow_sender_is_told_and_an_idle_connection_is_closed() -> None:
    limits = Limits(1000, 1000, client_timeout_s=0.1, keep_alive_s=0.1)
    async with connected(limits) as client:
        await client.send(post("/", b"hello")[:-2])
        answer = await client.read_all()
        assert answer.startswith(b"HTTP/1.1 408 ")
    async with connected(limits) as client:
        await client.send(get("/"))
        await client.read_until(b"GET ")
        assert await client.read_all() == b""


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    limits = Limits(1000, 1000, client_timeout_s=0.1, keep_alive_s=30)
    async with connected(limits) as client:
        await client.send(get("/wait"))
        await asyncio.sleep(0.02)
        (connection,) = client.server.connections
        connection.pause_writing()
        await asyncio.sleep(0.2)
        assert client.app.num_cancelled == 1


async def test_an_answer_that_is_never_read_ends_with_the_idle_connection() -> None:
    limits = Limits(1000, 1000, client_timeout_s=0.2, keep_alive_s=0.1)
    async with connected(limits) as client:
        client.writer.transport.pause_reading()
        await client.send(get("/big"))
        await until(lambda: bool(client.app.ended_with))
        await until(lambda: not client.server.connections)


async def test_a_last_answer_has_to_be_read_in_time() -> None:
    wire = Wire()
    connection = Connection(Server(Echo(), LIMITS))
    connection.connection_made(wire)
    connection.data_received(get("/secret", CLOSE))
    assert wire.is_closed
    assert connection.deadline < NEVER


async def test_while_draining_every_answer_ends_its_connection() -> None:
    async with connected() as client:
        client.server.draining = True
        await client.send(get("/"))
        assert b"connection: close" in await client.read_all()


async def test_http_1_0_hears_no_interim_answer() -> None:
    async with connected() as client:
        head = post("/", b"x", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        await client.send(head)
        assert b"100 Continue" not in await client.read_all()


async def test_binary_bodies_pass_unchanged() -> None:
    async with connected() as client:
        body = gzip.compress(bytes(range(256)) * 200)
        await client.send(post("/", body))
        answer = await client.read_until(body)
        assert answer.endswith(body)


async def test_where_the_network_cuts_a_request_makes_no_difference() -> None:
    stream = post("/", b"first") + get("/stream") + post("/secret", b"x") + post("/", b"last")
    for cut in range(1, len(stream)):
        app, wire = Echo(), Wire()
        connection = Connection(Server(app, LIMITS))
        connection.connection_made(wire)
        connection.data_received(stream[:cut])
        await asyncio.sleep(0)
        connection.data_received(stream[cut:])
        for _ in range(6):
            await asyncio.sleep(0)
        assert [request.body for request in app.seen] == [b"first", b"", b"last"]
        assert sorted(app.ended_with) == [200, 200, 200, 401]
        assert wire.text.index(b"first") < wire.text.index(b"two") < wire.text.index(b"last")


async def test_a_client_that_lags_behind_one_answer_still_lags_at_the_next() -> None:
    app, wire = Echo(), Wire()
    connection = Connection(Server(app, LIMITS))
    connection.connection_made(wire)
    connection.pause_writing()
    connection.data_received(get("/wait"))
    assert connection._reply
    assert connection._reply.paused
    heard: list[bool] = []
    connection._reply.on_writable = lambda: heard.append(True)
    connection.resume_writing()
    assert not connection._reply.paused
    assert heard == [True]
    connection.connection_lost(None)
    await asyncio.sleep(0)
