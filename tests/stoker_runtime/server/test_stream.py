"""Streams byte by byte: the order of events, one write per step, nothing lost to a slow reader."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stoker_runtime.server import refusal
from stoker_runtime.server.exchange import Exchange, Request
from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.server.openai import read_chat, read_completion
from stoker_runtime.server.payload import AnswerPlan
from stoker_runtime.server.stream import EventStream
from stoker_runtime.wire import FinishReason, Output
from support.letters import Letters


class Paper:
    """Keeps what is written, one entry per write."""

    def __init__(self) -> None:
        self.paused = False
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)


class Scene:
    """A stream of some choices, fed by hand."""

    def __init__(self, num_choices: int = 1, *, is_chat: bool = True, echo: str = "") -> None:
        self.paper = Paper()
        request = Request("POST", "/", True, False, {})  # HTTP/1.0: the events without chunks
        self.exchange = Exchange(request, self.paper, keep_alive=False)
        choices = [Choice(at, Letters(), TextRules()) for at in range(num_choices)]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.generation = Generation(choices, 0.0, done, prompt_tokens=3)
        read, prompt = (read_chat, b'"messages":[{"role":"user","content":"a"}]')
        if not is_chat:
            read, prompt = (read_completion, b'"prompt":"a"')
        ask = read(
            b'{"model":"m","stream":true,"stream_options":{"include_usage":true},%b}' % prompt
        )
        plan = AnswerPlan("id", 1, ask, Letters(), [echo] * num_choices)
        self.stream = EventStream(self.exchange, self.generation, plan)
        self.generation.on_progress = self.stream.flush

    def step(self, *texts: str, end: FinishReason | None = None) -> None:
        """One engine step: some text for each choice."""
        for choice, text in zip(self.generation.choices, texts, strict=True):
            choice.feed(Output("1", list(text.encode()), end))
        self.generation.publish()

    @property
    def events(self) -> list[Any]:
        """All events so far; comments and `[DONE]` as they are."""
        parts = b"".join(self.paper.writes).partition(b"\r\n\r\n")[2].decode().split("\n\n")
        texts = [part.removeprefix("data: ") for part in parts if part]
        return [json.loads(text) if text.startswith("{") else text for text in texts]

    @property
    def deltas(self) -> list[Any]:
        """The deltas of the first choices."""
        chunks = [event for event in self.events if isinstance(event, dict)]
        return [chunk["choices"][0]["delta"] for chunk in chunks if chunk.get("choices")]


ROLE = {"role": "assistant", "content": ""}


async def test_nothing_is_written_before_the_first_token() -> None:
    scene = Scene()
    assert scene.paper.writes == []
    assert not scene.exchange.started


async def test_each_step_is_one_write() -> None:
    scene = Scene(num_choices=3)
    for text in "abc":
        scene.step(text, text, text)
    scene.step("d", "d", "d", end="length")
    assert len(scene.paper.writes) == 4
    assert scene.generation.done.done()


async def test_the_first_write_holds_head_role_and_text() -> None:
    scene = Scene()
    scene.step("a")
    assert scene.paper.writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert scene.deltas == [ROLE, {"content": "a"}]


async def test_the_last_write_holds_text_end_usage_and_done() -> None:
    scene = Scene()
    scene.step("a")
    scene.step("b;", end="stop")  # the token that ends it is counted, not shown
    *_, text, end, usage, done = scene.events
    assert text["choices"][0]["delta"] == {"content": "b"}
    assert end["choices"] == [
        {
            "index": 0,
            "delta": {},
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": None,
        }
    ]
    assert usage["usage"]["total_tokens"] == 6
    assert done == "[DONE]"
    assert len(scene.paper.writes) == 2


async def test_text_that_needs_escapes_survives() -> None:
    scene = Scene()
    scene.step('"\\\n\x00 é</script>')
    assert scene.deltas[1] == {"content": '"\\\n\x00 é</script>'}


async def test_a_step_without_whole_characters_writes_nothing() -> None:
    scene = Scene()
    scene.step("a")
    scene.generation.choices[0].feed(Output("1", [0xC3]))
    scene.generation.publish()
    assert len(scene.paper.writes) == 1
    scene.generation.choices[0].feed(Output("1", [0xA9]))
    scene.generation.publish()
    assert scene.deltas[-1] == {"content": "é"}


async def test_a_slow_reader_gets_the_rest_in_one_chunk() -> None:
    scene = Scene()
    scene.step("a")
    scene.paper.paused = True
    for text in "bcd":
        scene.step(text)
    assert len(scene.paper.writes) == 1
    scene.paper.paused = False
    scene.stream.flush()
    assert scene.deltas == [ROLE, {"content": "a"}, {"content": "bcd"}]


async def test_the_end_is_written_even_to_a_slow_reader() -> None:
    scene = Scene()
    scene.paper.paused = True
    scene.step("a")
    scene.step("b", end="length")
    assert scene.exchange.ended
    assert scene.deltas == [ROLE, {"content": "ab"}, {}]


async def test_a_choice_that_ended_says_so_once() -> None:
    scene = Scene(num_choices=2)
    first, second = scene.generation.choices
    first.feed(Output("1", [97], "stop"))
    scene.generation.publish()
    for _ in range(3):
        second.feed(Output("2", [98]))
        scene.generation.publish()
    ends = [e for e in scene.events if e["choices"][0]["finish_reason"]]
    assert [end["choices"][0]["index"] for end in ends] == [0]
    assert not scene.exchange.ended


async def test_a_completion_has_texts_and_its_echo() -> None:
    scene = Scene(is_chat=False, echo="prompt ")
    scene.step("a", end="length")
    texts = [e["choices"][0]["text"] for e in scene.events[:-2]]
    assert texts == ["prompt a", ""]
    assert scene.events[0]["object"] == "text_completion"


async def test_a_failure_after_the_first_byte_is_an_event() -> None:
    scene = Scene()
    scene.step("a")
    scene.generation.failure = refusal.engine_crashed()
    scene.generation.publish()
    scene.generation.publish()
    assert scene.events[-1]["error"]["code"] == "engine_crashed"
    assert scene.exchange.ended


async def test_a_failure_before_the_first_byte_keeps_its_status() -> None:
    scene = Scene()
    scene.generation.failure = refusal.engine_crashed()
    scene.generation.publish()
    assert scene.paper.writes == []
    assert scene.generation.done.done()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_silent_stream_is_kept_alive_by_comments(begun: bool) -> None:
    scene = Scene()
    if begun:
        scene.step("a")
        scene.stream.keep_alive()  # it spoke since the last call, so this one writes nothing
        assert ": keep-alive" not in scene.events
    for _ in range(2):
        scene.stream.keep_alive()
    assert scene.events.count(": keep-alive") == 2
    scene.step("b", end="length")
    assert scene.deltas.count(ROLE) == 1
    assert scene.events[-1] == "[DONE]"
    scene.stream.keep_alive()
    assert scene.events[-1] == "[DONE]"
