"""Tokens shared out: who is fed, who is told of an end, and what the engine hears of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server.engine_client import EngineClient
from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.server.metrics import Metrics
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.wire import (
    Abort,
    EngineInbox,
    Failed,
    Generate,
    Loaded,
    Output,
    Outputs,
    Unload,
    pack,
)
from support.letters import Letters


class Listener(EngineClient):
    """Says when it has heard something."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.heard.set()


class Scene:
    """A client whose engine is played by the test, at the other end of a real socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.lifecycle = Lifecycle(0.0, lambda: "ended")
        self.metrics = Metrics("m")
        self.client = Listener(self.lifecycle, self.metrics)
        self.sock, self.inbox = sock, EngineInbox()
        self.loop = asyncio.get_running_loop()

    async def hear(self) -> list[msgspec.Struct]:
        """What the engine was told."""
        return list(self.inbox.feed(await self.loop.sock_recv(self.sock, 1 << 16)))

    async def say(self, message: msgspec.Struct) -> None:
        """The engine says something, and the client has heard it."""
        self.client.heard = asyncio.Event()
        await self.loop.sock_sendall(self.sock, pack(message))
        await self.client.heard.wait()

    async def start(self, num_choices: int = 1, stops: tuple[str, ...] = ()) -> Generation:
        """Submit a request; its sequences are "1", "2" and so on."""
        choices = [Choice(at, Letters(), TextRules(stops)) for at in range(num_choices)]
        generation = Generation(choices, 0.0, self.loop.create_future(), prompt_tokens=1)
        params = SamplingParams(max_tokens=9)
        self.client.submit(generation, [([97], params)] * num_choices)
        heard = await self.hear()
        assert [type(message) for message in heard] == [Generate] * num_choices
        return generation


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    scene = Scene(theirs)
    await scene.client.connect(ours)
    await scene.say(Loaded(4, 256, 64, 16, 320, (2,)))
    scene.lifecycle.text_ready()
    yield scene
    theirs.close()


def first_tokens(metrics: Metrics) -> str:
    """How many requests got a first token."""
    lines = metrics.render({}, {}).decode().splitlines()
    name = "stoker_runtime_time_to_first_token_seconds_count"
    return next(line for line in lines if line.startswith(name)).rpartition(" ")[2]


async def test_every_answer_gets_its_own_tokens(scene: Scene) -> None:
    generation = await scene.start(num_choices=2)
    await scene.say(Outputs([Output("2", [98]), Output("1", [97])]))
    await scene.say(Outputs([Output("1", [99], "length"), Output("2", [100], "length")]))
    assert [choice.take().text for choice in generation.choices] == ["ac", "bd"]
    assert generation.done.done()
    assert scene.client.num_active == 0


async def test_a_step_is_published_once(scene: Scene) -> None:
    generation = await scene.start(num_choices=3)
    told: list[int] = []
    generation.on_progress = lambda: told.append(generation.completion_tokens)
    await scene.say(Outputs([Output(id, [97]) for id in "123"]))
    assert told == [3]


async def test_a_stop_string_ends_the_sequence_in_the_engine(scene: Scene) -> None:
    generation = await scene.start(stops=("b",))
    await scene.say(Outputs([Output("1", [97])]))
    await scene.say(Outputs([Output("1", [98])]))
    assert await scene.hear() == [Abort(["1"])]
    assert generation.done.done()
    await scene.say(Outputs([Output("1", [99], "abort")]))
    assert generation.choices[0].num_tokens == 2


async def test_an_error_of_one_answer_ends_its_siblings(scene: Scene) -> None:
    generation = await scene.start(num_choices=2)
    await scene.say(Outputs([Output("2", [], "error", error="no", error_code="invalid")]))
    assert generation.failure is not None
    assert generation.failure.status == 400
    assert await scene.hear() == [Abort(["1"])]
    assert generation.done.done()


async def test_what_the_engine_refuses_got_no_first_token(scene: Scene) -> None:
    await scene.start()
    await scene.say(Outputs([Output("1", [], "error", error="no", error_code="overloaded")]))
    assert first_tokens(scene.metrics) == "0"
    await scene.start()
    await scene.say(Outputs([Output("2", [97])]))
    assert first_tokens(scene.metrics) == "1"


async def test_nobody_waits_for_an_engine_that_is_gone(scene: Scene) -> None:
    generation = await scene.start()
    order = asyncio.create_task(scene.client.ask(Unload()))
    assert await scene.hear() == [Unload()]
    scene.sock.close()
    assert isinstance(await order, Failed)
    assert generation.done.done()
    assert not scene.lifecycle.healthy
    with pytest.raises(Refusal):
        scene.client.submit(generation, [])
    assert await scene.client.ask(Unload()) == Failed(
        "EngineCrashed", "the engine process has ended"
    )
