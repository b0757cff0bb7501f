"""Sends a run's conversations: on a schedule (open loop) or so many at a time (closed loop).

Knows tasks, places and when to stop; does not know how one request is sent or what is measured.
In an open loop a request is due at its time whether or not the server keeps up, and how late it
was sent is part of its sample: a server that stalls can't hide the requests that it held up
("coordinated omission", a term of Gil Tene's).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress

from stoker_cli.bench.client import Client, Message
from stoker_cli.bench.measure import CUT, Sample
from stoker_cli.bench.plan import Due
from stoker_cli.bench.workload import Conversation

_PAUSE_AFTER_ERROR_S = 0.1
"""In a closed loop; else a server that refuses at once would be asked thousands of times."""


class Drive:
    """One run against one server."""

    def __init__(
        self, client: Client, seen: Callable[[Sample], None], duration_s: float | None = None
    ) -> None:
        """`seen` gets each sample as it ends; no turn begins later than `duration_s`."""
        self._client = client
        self._seen = seen
        self._duration_s = duration_s
        self._started_at = 0.0
        self._num_failed = 0

    async def closed(self, conversations: Iterable[Due], concurrency: int) -> None:
        """So many conversations at a time, the next when one ends."""
        shared = iter(conversations)
        self._started_at = time.perf_counter()
        await _run_all([self._work(shared) for _ in range(concurrency)])

    async def open(self, conversations: Iterable[Due], concurrency: int | None) -> None:
        """Each conversation at its time; more than `concurrency` wait, and that is measured."""
        places = asyncio.Semaphore(concurrency or 1 << 30)
        self._started_at = time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        try:
            for due in conversations:
                await asyncio.sleep(max(0.0, due.at_s - self._elapsed_s()))
                tasks.add(task := asyncio.create_task(self._converse(due, places)))
                task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
        finally:
            await _cancel(tasks)

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_at

    def _is_over(self) -> bool:
        return self._duration_s is not None and self._elapsed_s() >= self._duration_s

    async def _work(self, shared: Iterator[Due]) -> None:
        """One place of a closed loop."""
        while not self._is_over() and (due := next(shared, None)):
            num_failed = self._num_failed
            await self._converse(due, None)
            if self._num_failed > num_failed:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)

    async def _converse(self, due: Due, places: asyncio.Semaphore | None) -> None:
        """All turns, each with the server's own answers before it, up to one that fails."""
        due_at = self._started_at + due.at_s if places else time.perf_counter()
        try:
            if places is None:
                await self._take_turns(due.conversation, due_at)
                return
            async with places:
                await self._take_turns(due.conversation, due_at)
        except asyncio.CancelledError:
            now = time.perf_counter()
            self._seen(Sample(now, now, now, error=CUT))
            raise

    async def _take_turns(self, conversation: Conversation, due_at: float) -> None:
        said: list[Message] = []
        if conversation.system:
            said.append({"role": "system", "content": conversation.system})
        for number, turn in enumerate(conversation.turns):
            if number and self._is_over():
                return
            said.append({"role": "user", "content": turn.text})
            sample, text = await self._client.ask(said, turn.max_tokens, due_at)
            self._num_failed += not sample.is_ok
            self._seen(sample)
            if not sample.is_ok:
                return
            said.append({"role": "assistant", "content": text})
            due_at = time.perf_counter()


async def _run_all(work: Iterable[Coroutine[None, None, None]]) -> None:
    tasks = {asyncio.create_task(part) for part in work}
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End what still runs, and wait until it has ended."""
    for task in (running := list(tasks)):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*running, return_exceptions=True)
