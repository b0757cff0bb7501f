"""The demand stream, as an operator reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker_api.demand import Announcement, Demand, Ping, parse_line
from stoker_gateway import demand
from stoker_gateway.demand import DemandPublisher, demand_line
from stoker_gateway.lane import Bounds, Lane
from stoker_gateway.target import Target
from stoker_gateway.tokens import FIRST_BYTES_PER_TOKEN
from support.fake_runtime import FakeRuntime
from support.fake_watch import make_deployment
from support.gateway import Gateway, running_gateway, until


class Recorder:
    """A subscriber that never leaves and never lags."""

    paused = False
    on_writable: Any = None

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def start(self, status: int, headers: object) -> None:
        assert status == 200

    def write(self, data: bytes) -> None:
        self.lines += [json.loads(line) for line in data.splitlines()]

    @property
    def queued(self) -> list[int]:
        return [line["queued"] for line in self.lines if line["kind"] == "demand"]


def make_lane() -> Lane:
    return Lane(Target("default", "chat", "chat"), Bounds(10, 1000), now=0)


@pytest.fixture
async def subscribed() -> AsyncIterator[tuple[DemandPublisher, Lane, Recorder]]:
    lane, recorder = make_lane(), Recorder()
    publisher = DemandPublisher(lambda: [lane])
    task = asyncio.create_task(publisher.stream(recorder))
    await asyncio.sleep(0)
    recorder.lines.clear()
    yield publisher, lane, recorder
    task.cancel()


def next_line(stream: AsyncIterator[dict[str, Any]]) -> Any:
    return asyncio.wait_for(anext(stream), 2)


def test_a_line_is_what_the_operator_parses() -> None:
    lane = make_lane()
    lane.enter(400, now=10)
    line = parse_line(demand_line(lane, now=12.5))
    assert line == Demand(
        deployment="default/chat",
        queued=1,
        running=0,
        idle_s=0,
        arrivals=1,
        oldest_wait_s=2.5,
        queued_tokens=100,
        arrived_tokens=100,
    )


async def test_a_wake_and_its_end_are_told_in_the_same_step(
    subscribed: tuple[DemandPublisher, Lane, Recorder],
) -> None:
    publisher, lane, recorder = subscribed
    held = lane.enter(1, now=0)
    publisher.touch(lane)
    assert recorder.queued == [1]
    lane.leave(held, now=0)
    publisher.touch(lane)
    assert recorder.queued == [1, 0]


async def test_more_of_the_same_is_told_together(
    subscribed: tuple[DemandPublisher, Lane, Recorder],
) -> None:
    publisher, lane, recorder = subscribed
    for _ in range(5):
        lane.enter(1, now=0)
        publisher.touch(lane)
    assert recorder.queued == [1]
    await asyncio.sleep(demand.COALESCE_S * 2)
    assert recorder.queued == [1, 5]


async def test_what_was_said_is_not_said_again_but_to_who_comes_later(
    subscribed: tuple[DemandPublisher, Lane, Recorder],
) -> None:
    publisher, lane, recorder = subscribed
    lane.enter(1, now=0)
    for _ in range(3):
        publisher.touch(lane)
        await asyncio.sleep(demand.COALESCE_S * 2)
    assert recorder.queued == [1]
    later = Recorder()
    task = asyncio.create_task(publisher.stream(later))
    await asyncio.sleep(0)
    publisher.touch(lane)
    assert later.queued == [1, 1]  # a line may have been on its way when the stream was opened
    assert recorder.queued == [1, 1]
    task.cancel()


async def test_a_warm_deployment_is_told_at_most_every_20_ms(
    subscribed: tuple[DemandPublisher, Lane, Recorder],
) -> None:
    publisher, lane, recorder = subscribed
    pod = lane.routes.add("a", now=0)
    pod.address, pod.slots, pod.ready = "a:1", 99, True
    for _ in range(10):
        lane.leave(lane.enter(1, now=0), now=0)
        publisher.touch(lane)
    assert len(recorder.queued) == 1
    await asyncio.sleep(demand.COALESCE_S * 2)
    assert [line["arrivals"] for line in recorder.lines] == [1, 10]


async def test_without_change_the_stream_says_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demand, "PING_S", 0.01)
    recorder = Recorder()
    publisher = DemandPublisher(list)
    task = asyncio.create_task(publisher.stream(recorder))
    await until(lambda: len(recorder.lines) > 2)
    task.cancel()
    assert all(parse_line(json.dumps(line).encode()) == Ping() for line in recorder.lines)


async def test_a_subscriber_that_lagged_gets_everything_anew(
    subscribed: tuple[DemandPublisher, Lane, Recorder],
) -> None:
    publisher, lane, recorder = subscribed
    recorder.paused = True
    lane.enter(1, now=0)
    publisher.touch(lane)
    assert recorder.lines == []
    recorder.paused = False
    recorder.on_writable()
    await asyncio.sleep(0.01)
    assert recorder.queued == [1]


async def test_an_operator_sees_a_request_come_and_its_client_go() -> None:
    async with running_gateway() as gateway:
        stream = gateway.demand()
        first = await next_line(stream)
        assert (first["deployment"], first["queued"], first["arrivals"]) == ("default/chat", 0, 0)
        asking = asyncio.create_task(gateway.ask().__aenter__())
        assert (await next_line(stream))["queued"] == 1
        asking.cancel()
        last = await next_line(stream)
        assert (last["queued"], last["running"], last["arrivals"]) == (0, 0, 1)


async def test_an_operator_sees_where_requests_run() -> None:
    gate = asyncio.Event()
    async with running_gateway() as gateway, FakeRuntime(gate=gate) as runtime:
        await gateway.add(runtime, "chat-7")
        asking = asyncio.create_task(gateway.ask().__aenter__())
        stream = gateway.demand()
        while (line := await next_line(stream)).get("running") != 1:
            pass
        assert line["pods"] == {"chat-7": 1}
        gate.set()
        await asking


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_an_operator_hears_of_tokens_as_answers_tell_them(stream: bool) -> None:
    body = {"stream": stream, "stream_options": {"include_usage": True}}
    async with running_gateway() as gateway, FakeRuntime(num_tokens=3) as runtime:
        await gateway.add(runtime)
        async with gateway.ask(body) as answer:
            await answer.read()
        [lane] = gateway.worker.fleet
        await until(lambda: not lane.busy)
        line = parse_line(demand_line(lane, 0))
        assert isinstance(line, Demand)
        assert line.completed_tokens == 3
        assert line.arrived_tokens > 0
        assert lane.tokens.bytes_per_token != FIRST_BYTES_PER_TOKEN


async def test_an_operator_hears_announcements_live_and_when_it_comes_later() -> None:
    async with running_gateway() as gateway:
        early = gateway.demand()
        await next_line(early)
        phases = {"container": 1.5, "imports": 2.5}
        await gateway.announce("chat-1", "Loading", "10.0.0.1:8000", phases=phases)
        for stream in (early, gateway.demand()):
            lines = [await next_line(stream)]
            while lines[-1]["kind"] != "announce":
                lines.append(await next_line(stream))
            said = Announcement.model_validate(lines[-1])
            assert (said.pod, said.phase, said.phases) == ("chat-1", "Loading", phases)


async def test_a_new_deployment_is_told() -> None:
    async with running_gateway() as gateway:
        stream = gateway.demand()
        await next_line(stream)
        await gateway.cluster.put("deployments", make_deployment("new"))
        assert (await next_line(stream))["deployment"] == "default/new"


async def test_subscribers_that_leave_are_forgotten() -> None:
    async with running_gateway() as gateway:
        publisher = gateway.worker.demand
        stream = gateway.demand()
        await next_line(stream)
        assert publisher.num_subscribers == 1
        await stream.aclose()
        await asyncio.sleep(0.05)
        assert publisher.num_subscribers == 0


async def test_the_idle_age_grows_and_a_request_resets_it() -> None:
    def age(gateway: Gateway) -> float:
        (lane,) = gateway.worker.fleet
        return float(json.loads(demand_line(lane, asyncio.get_running_loop().time()))["idle_s"])

    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        await asyncio.sleep(0.1)
        assert age(gateway) >= 0.09
        async with gateway.ask() as answer:
            await answer.read()
        assert age(gateway) < 0.09
