"""The API process's end of the socket to the engine: sends sequences, shares out their tokens.

Knows the wire and which answer each sequence belongs to; does not know HTTP or the text. What the
engine says of itself goes to `Lifecycle`. One per process, used from the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import cast

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server import refusal
from stoker_runtime.server.generation import Choice, Generation
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.server.metrics import Metrics
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.wire import (
    Abort,
    ApiInbox,
    Failed,
    Generate,
    Heartbeat,
    Load,
    Loaded,
    Output,
    Outputs,
    Phase,
    Resident,
    Settled,
    Sleep,
    Stats,
    Stop,
    ToEngine,
    Unload,
    Wake,
    pack,
)

log = logging.getLogger(__name__)


class EngineClient(asyncio.Protocol):
    """Sequences out, tokens in."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics) -> None:
        """Tell `lifecycle` about the engine, count in `metrics`."""
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._inbox = ApiInbox()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answers: dict[str, tuple[Generation, Choice]] = {}
        self._next_id = 0
        self._asked: asyncio.Future[Loaded | Settled | Failed] | None = None

    @property
    def num_active(self) -> int:
        """Sequences handed to the engine and not ended."""
        return len(self._answers)

    async def connect(self, sock: socket.socket) -> None:
        """Take the socket over."""
        await self._loop.create_unix_connection(lambda: self, sock=sock)

    def submit(
        self, generation: Generation, prompts: Sequence[tuple[list[int], SamplingParams]]
    ) -> None:
        """Start one sequence per answer. Raises `Refusal` when there is no engine, or no model.

        The model may have gone since the request was first looked at: nothing was done for it yet.
        """
        if why := self._lifecycle.refuse_work():
            raise why
        if self._transport is None:
            raise refusal.engine_crashed()
        for choice, (ids, params) in zip(generation.choices, prompts, strict=True):
            self._next_id += 1
            id = f"{self._next_id:x}"
            self._answers[id] = (generation, choice)
            self._send(Generate(id, ids, params, generation.priority, generation.cache_salt))

    def release(self, generation: Generation) -> None:
        """Nobody waits for it any more: abort what still runs."""
        self._abort([id for id, (owner, _) in self._answers.items() if owner is generation])

    async def ask(self, order: Load | Unload | Sleep | Wake) -> Loaded | Settled | Failed:
        """Have the model moved; how that ended. One order at a time."""
        assert self._asked is None, "the switch lets one order through at a time"
        if self._transport is None:
            return Failed("EngineCrashed", "the engine process has ended")
        self._asked = self._loop.create_future()
        try:
            self._send(order)
            return await self._asked
        finally:
            self._asked = None

    def stop(self) -> None:
        """Let the engine end."""
        if self._transport:
            self._send(Stop())

    def cut(self) -> None:
        """End all that runs with an error."""
        self._fail_all(refusal.cut_off())

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine is gone, and with it all that ran."""
        self._transport = None
        self._fail_all(refusal.engine_crashed())
        self._answer(Failed("EngineCrashed", "the engine process ended"))
        self._lifecycle.on_lost()

    def data_received(self, data: bytes) -> None:
        """Frames from the engine."""
        for message in self._inbox.feed(data):
            match message:
                case Outputs():
                    self._share_out(message.outputs)
                case Stats():
                    self._metrics.stats = message
                    self._lifecycle.on_stats(message)
                case Loaded() | Settled() | Failed():
                    self._on_outcome(message)
                case Phase():
                    self._lifecycle.on_phase(message)
                case Resident():
                    self._lifecycle.on_resident(message)
                case Heartbeat():
                    self._lifecycle.on_heartbeat(message)

    # From here on: ours.

    def _on_outcome(self, message: Loaded | Settled | Failed) -> None:
        """What came of a start or of an order; only what nobody ordered is told as an event."""
        answered = self._answer(message)
        match message:
            case Loaded():
                self._metrics.loaded = message
                self._lifecycle.on_loaded(message)
            case Settled() if not answered:
                self._lifecycle.on_settled()
            case Failed() if not answered:
                self._lifecycle.on_failed(message)

    def _answer(self, message: Loaded | Settled | Failed) -> bool:
        """Tell whoever asked; false when nobody did."""
        if self._asked is None or self._asked.done():
            return False
        self._asked.set_result(message)
        return True

    def _send(self, message: ToEngine) -> None:
        if self._transport:
            self._transport.write(pack(message))

    def _abort(self, ids: list[str]) -> None:
        for id in ids:
            del self._answers[id]
        if ids:
            self._send(Abort(ids))

    def _share_out(self, outputs: list[Output]) -> None:
        """Feed each answer what the step made for it, then let each request write once."""
        now = self._loop.time()
        fed: dict[Generation, None] = {}
        for output in outputs:
            answer = self._answers.get(output.id)
            if answer and self._feed(*answer, output):  # none: it was aborted a moment ago
                fed[answer[0]] = None
        for generation in fed:
            self._metrics.observe_step(generation, now)
            self._publish(generation)

    def _feed(self, generation: Generation, choice: Choice, output: Output) -> bool:
        """Whether that brought a token; a failure is told at once."""
        if output.finish_reason in ("error", "abort"):
            log.error("sequence %s failed: %s", output.id, output.error or output.finish_reason)
            del self._answers[output.id]
            self._metrics.count_error(output.error)
            self._fail(generation, refusal.from_engine(output.error, output.error_code))
            return False
        try:
            choice.feed(output)
        except Exception:
            log.exception("sequence %s can't be turned into text", output.id)
            self._fail(generation, refusal.internal_error())
            return False
        if output.finish_reason is not None:
            del self._answers[output.id]
        elif choice.finish_reason is not None:  # ended by a stop string, which the engine can't see
            self._abort([output.id])
        return True

    def _fail_all(self, why: Refusal) -> None:
        for generation in dict.fromkeys(owner for owner, _ in self._answers.values()):
            self._fail(generation, why)

    def _fail(self, generation: Generation, why: Refusal) -> None:
        generation.failure = why
        self.release(generation)
        self._publish(generation)

    def _publish(self, generation: Generation) -> None:
        try:
            generation.publish()
        except Exception:
            log.exception("an answer can't be written")
            if not generation.done.done():
                generation.done.set_exception(refusal.internal_error())
