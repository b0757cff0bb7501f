"""Both loops against a small server: order, places, schedules, failures and interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from stoker_cli.bench.client import Client, Message, Target
from stoker_cli.bench.drive import Drive
from stoker_cli.bench.measure import CUT, Sample
from stoker_cli.bench.plan import Due
from stoker_cli.bench.workload import Conversation, Turn
from support.odd_server import run_odd_server


class Listening(Client):
    """A client that remembers what it said, and to how many at once."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.said: list[list[Message]] = []
        self.most = self._now = 0

    async def ask(
        self, messages: object, max_tokens: int, due_at: float | None = None
    ) -> tuple[Sample, str]:
        self.said.append(list(messages))  # type: ignore[call-overload]
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await super().ask(messages, max_tokens, due_at)  # type: ignore[arg-type]
        finally:
            self._now -= 1


@pytest.fixture
async def client() -> AsyncIterator[Listening]:
    async with run_odd_server() as url, Listening(Target(url, "good")) as made:
        yield made


def misbehave(client: Client, model: str, timeout_s: float = 60.0) -> None:
    client.target = Target(client.target.url, model, timeout_s=timeout_s)


def talks(count: int, turns: int = 1, gap_s: float = 0.0) -> Iterator[Due]:
    for number in range(count):
        said = tuple(Turn(f"talk {number} turn {turn}", 3) for turn in range(turns))
        yield Due(Conversation(said, "be brief" if turns > 1 else ""), number * gap_s)


async def test_a_closed_loop_keeps_its_places_filled(client: Listening) -> None:
    samples: list[Sample] = []
    await Drive(client, samples.append).closed(talks(12), concurrency=3)
    assert len(samples) == 12
    assert client.most == 3
    assert sorted(said[0]["content"] for said in client.said) == sorted(
        f"talk {number} turn 0" for number in range(12)
    )


async def test_later_turns_carry_the_servers_own_answers(client: Listening) -> None:
    await Drive(client, lambda sample: None).closed(talks(1, turns=3), concurrency=1)
    assert [len(said) for said in client.said] == [2, 4, 6]
    assert client.said[-1] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "talk 0 turn 0"},
        {"role": "assistant", "content": "word word word "},
        {"role": "user", "content": "talk 0 turn 1"},
        {"role": "assistant", "content": "word word word "},
        {"role": "user", "content": "talk 0 turn 2"},
    ]


async def test_a_failed_turn_ends_its_conversation_alone(client: Listening) -> None:
    misbehave(client, "busy")
    samples: list[Sample] = []
    await Drive(client, samples.append).closed(talks(2, turns=3), concurrency=2)
    assert [sample.error for sample in samples] == ["HTTP 429 boom"] * 2


async def test_an_open_loop_sends_while_nobody_answers(client: Listening) -> None:
    misbehave(client, "hangs", timeout_s=0.2)
    await Drive(client, lambda sample: None).open(talks(5, gap_s=0.01), concurrency=None)
    assert client.most == 5


async def test_waiting_for_a_place_is_part_of_the_sample(client: Listening) -> None:
    misbehave(client, "hangs", timeout_s=0.05)
    samples: list[Sample] = []
    await Drive(client, samples.append).open(talks(3, gap_s=0.001), concurrency=1)
    assert client.most == 1
    waits = [sample.queue_s for sample in samples]
    assert waits == sorted(waits)
    assert all(sample.e2e_due_s > sample.e2e_s for sample in samples)


@pytest.mark.parametrize("is_open", [True, False])
async def test_an_interrupted_run_tells_what_was_cut(client: Listening, is_open: bool) -> None:
    misbehave(client, "hangs")
    samples: list[Sample] = []
    drive = Drive(client, samples.append)
    run = drive.open(talks(3), None) if is_open else drive.closed(talks(9), concurrency=3)
    task = asyncio.create_task(run)
    while client.most < 3:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [sample.error for sample in samples] == [CUT] * 3


async def test_no_turn_begins_after_the_duration(client: Listening) -> None:
    samples: list[Sample] = []
    await Drive(client, samples.append, duration_s=0.0).closed(talks(9, turns=3), concurrency=2)
    assert samples == []
    await Drive(client, samples.append, duration_s=0.0).open(talks(2, turns=3), concurrency=None)
    assert len(samples) == 2, "what was due in time is sent, what would follow is not"
