"""The client against a server that misbehaves in every way: a failure is a kind, never a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stoker_cli.bench.client import Client, ServerUnusable, Target
from stoker_cli.bench.measure import Sample
from support.odd_server import run_odd_server
from support.runtime_server import free_ports

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with run_odd_server() as running:
        yield running


async def ask(url: str, model: str, **options: float) -> tuple[Sample, str]:
    async with Client(Target(url, model, **options)) as client:  # type: ignore[arg-type]
        return await client.ask(HELLO, 3)


async def test_a_good_answer_is_timed_and_counted_by_the_server(url: str) -> None:
    sample, text = await ask(url, "good")
    assert text == "word word word "
    assert sample.is_ok
    assert sample.is_counted
    assert (sample.input_tokens, sample.output_tokens, sample.cached_tokens) == (9, 3, 4)
    assert sample.first_token_at
    assert sample.last_token_at
    assert sample.sent_at <= sample.first_token_at <= sample.last_token_at <= sample.ended_at
    assert len(sample.gaps_s) == 2


@pytest.mark.parametrize("model", ["no-usage", "odd-usage", "comments"])
async def test_without_usage_pieces_are_counted(url: str, model: str) -> None:
    sample, _ = await ask(url, model)
    assert sample.is_ok
    assert not sample.is_counted
    assert sample.output_tokens == 3


async def test_an_answer_that_finished_is_whole_without_the_last_word(url: str) -> None:
    sample, _ = await ask(url, "no-done")
    assert sample.is_ok
    assert sample.output_tokens == 3


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("cut-short", "stream ended early"),
        ("drops", "connection lost"),
        ("resets", "connection lost"),
        ("garbage", "an event that is no chunk"),
        ("list", "an event that is no chunk"),
        ("stream-error", "error in the stream: boom"),
        ("plain", "not an event stream but application/json"),
        ("busy", "HTTP 429 boom"),
        ("broken", "HTTP 500"),
    ],
)
async def test_every_failure_has_its_kind(url: str, model: str, error: str) -> None:
    sample, _ = await ask(url, model)
    assert sample.error == error
    assert sample.ended_at >= sample.sent_at


async def test_a_server_that_never_answers_is_a_timeout(url: str) -> None:
    sample, text = await ask(url, "hangs", timeout_s=0.1)
    assert (sample.error, text) == ("timeout", "")
    assert sample.ttft_s is None


async def test_nobody_listening_is_said() -> None:
    [port] = free_ports(1)
    sample, _ = await ask(f"http://127.0.0.1:{port}/v1", "good")
    assert sample.error == "can't connect"


async def test_waiting_before_the_send_counts_from_when_it_was_due(url: str) -> None:
    async with Client(Target(url, "good")) as client:
        early, _ = await client.ask(HELLO, 3)
        late, _ = await client.ask(HELLO, 3, due_at=early.sent_at)
    assert late.queue_s == late.sent_at - early.sent_at > 0
    assert early.queue_s == 0


async def test_the_first_listed_model_is_found(url: str) -> None:
    async with Client(Target(url)) as client:
        assert await client.find_model() == "good"


async def test_a_server_without_models_is_unusable() -> None:
    [port] = free_ports(1)
    async with Client(Target(f"http://127.0.0.1:{port}/v1")) as client:
        with pytest.raises(ServerUnusable, match="can't be reached"):
            await client.find_model()
