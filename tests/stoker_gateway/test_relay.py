"""One answer on its way to the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker_gateway.http.reply import Reply
from stoker_gateway.queue import Held
from stoker_gateway.relay import Relay


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> None:
        self.text += data


class Connection:
    """Counts pauses."""

    num_pauses = 0

    def pause(self) -> None:
        self.num_pauses += 1

    def resume(self) -> None:
        self.num_pauses -= 1


def make_relay(waited_s: float = 0, cold: bool = False, **state: Any) -> tuple[Relay, Reply, Wire]:
    wire = Wire()
    reply = Reply(wire, "req-1", lambda reply: None)
    held = Held(1, 1, arrived_at=0, budget_s=1, cold=cold, waited_s=waited_s)
    for name, value in state.items():
        setattr(reply, name, value)
    return Relay(reply, Connection(), held), reply, wire


EVENTS = [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")]


async def test_headers_of_one_hop_and_private_ones_are_not_passed_on() -> None:
    relay, _, wire = make_relay()
    hop = [(b"connection", b"close"), (b"server", b"uvicorn"), (b"x-request-id", b"theirs")]
    relay.on_head(200, [*hop, (b"content-length", b"2"), (b"x-kept", b"1")])
    relay.on_body(b"ok")
    relay.on_end()
    assert b"x-kept: 1" in wire.text
    assert b"content-length: 2" in wire.text
    for gone in (b"uvicorn", b"theirs", b"connection"):
        assert gone not in wire.text
    assert wire.text.endswith(b"\r\n\r\nok")


async def test_streams_are_not_to_be_cached() -> None:
    relay, _, wire = make_relay()
    relay.on_head(200, EVENTS)
    assert b"cache-control: no-cache\r\n" in wire.text
    own, _, wire = make_relay()
    own.on_head(200, [*EVENTS, (b"cache-control", b"no-store")])
    assert b"no-cache" not in wire.text


@pytest.mark.parametrize(
    ("said", "means"),
    [(b"full", "full"), (b"draining", "draining"), (b"loading", "loading"), (b"news", "loading")],
)
async def test_a_refusal_reaches_the_gateway_and_not_the_client(said: bytes, means: str) -> None:
    relay, reply, wire = make_relay()
    relay.on_head(503, [(b"x-stoker-refused", said), (b"content-length", b"3")])
    relay.on_body(b"no!")
    relay.on_end()
    assert relay.refused == means
    assert (wire.text, reply.started) == (b"", False)


async def test_a_503_of_the_model_itself_is_an_answer() -> None:
    relay, reply, _ = make_relay()
    relay.on_head(503, [(b"content-length", b"0")])
    assert (relay.refused, reply.status) == (None, 503)


async def test_says_how_long_it_was_held() -> None:
    relay, _, wire = make_relay(waited_s=1.2345, cold=True)
    relay.on_head(200, EVENTS)
    assert b"x-stoker-queued-ms: 1234\r\n" in wire.text
    assert b"server-timing: queue;dur=1234\r\n" in wire.text
    assert b"x-stoker-cold-start: fresh\r\n" in wire.text


async def test_a_client_that_lags_pauses_the_pod() -> None:
    relay, reply, _ = make_relay(paused=True)
    relay.on_head(200, EVENTS)
    relay.on_body(b"data")
    assert relay.connection.num_pauses == 1
    assert reply.on_writable
    reply.on_writable()
    assert relay.connection.num_pauses == 0


async def test_after_an_early_head_a_whole_error_becomes_one_event() -> None:
    relay, reply, wire = make_relay()
    reply.start(200, [])
    before = len(wire.text)
    relay.on_head(400, [(b"content-type", b"application/json")])
    relay.on_body(b'{"error":\n')
    relay.on_body(b'{"code":"x"}}')
    relay.on_end()
    text = wire.text[before:].decode()
    assert 'data: {"error": {"code":"x"}}' in text
    assert "data: [DONE]" in text
    assert reply.status == 200


async def test_after_an_early_head_a_plain_text_error_is_wrapped() -> None:
    relay, reply, wire = make_relay()
    reply.start(200, [])
    relay.on_head(502, [(b"content-type", b"text/plain")])
    relay.on_body(b"Bad Gateway")
    relay.on_end()
    event = wire.text.decode().split("data: ")[1].split("\n")[0]
    assert json.loads(event)["error"]["message"] == "Bad Gateway"


async def test_loss_before_and_after_the_first_byte_are_told_apart() -> None:
    early, _, _ = make_relay()
    early.on_lost()
    assert early.lost_unanswered
    late, _, _ = make_relay()
    late.on_head(200, EVENTS)
    late.on_lost()
    assert late.lost
    assert not late.lost_unanswered
    assert late.over
