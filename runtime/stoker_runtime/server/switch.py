"""Moves models in and out, to sleep and awake: one transition at a time, each safe to repeat.

Knows which phase allows what and in which order both processes change; does not know HTTP or how an
engine does it. Driven by the admin port. A transition that has begun ends, whoever hangs up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

from stoker_runtime.config import Config
from stoker_runtime.errors import StokerRuntimeError
from stoker_runtime.server import refusal
from stoker_runtime.server.announce import Announcer, read_target
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.server.metrics import Metrics
from stoker_runtime.server.order import vacate
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.server.service import Service
from stoker_runtime.server.shelf import Shelf
from stoker_runtime.server.texts import Texts
from stoker_runtime.wire import Failed, Load, Loaded, Settled, Sleep, Unload, Wake

log = logging.getLogger(__name__)

_TICK_S = 0.02
_LAST_ANNOUNCEMENT_S = 0.5
Level = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was ordered; an equal one joins the transition that runs."""

    name: Literal["load", "unload", "sleep", "wake_up"]
    config: Config | None = None
    """Of the model to load."""
    level: Level = 1
    """Of the sleep."""


class Switch:
    """The transitions of one process."""

    def __init__(
        self, service: Service, announcer: Announcer | None = None, shelf: Shelf | None = None
    ) -> None:
        """Change `service`; the gateway hears of it from `announcer`."""
        self.vacant = vacate(service.config)
        """The settings while there is no model."""
        self.level: Literal[0, 1, 2] = 0
        """How deep the model sleeps; 0: it does not."""
        self._service = service
        self._announcer = announcer
        self._shelf = shelf or Shelf()
        self._filling: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wish: Wish | None = None

    @property
    def busy(self) -> bool:
        """A transition runs."""
        return self._task is not None

    async def change(self, wish: Wish) -> None:
        """Make it so; nothing happens if it is so. Raises `Refusal`."""
        if self._task is None:
            work = self._plan(wish)
            if work is None:
                return
            self._wish = wish
            self._task = asyncio.create_task(self._run(work))
            self._task.add_done_callback(_retrieve)
        elif wish != self._wish:
            raise self.conflict(wish.name)
        await asyncio.shield(self._task)

    def conflict(self, name: str) -> Refusal:
        """Why it can't be done now."""
        running = self._wish.name if self._wish and self._task else ""
        state = f"/{running} runs" if running else f"the pod is {self._life.phase}"
        message = f"/{name} is not possible now: {state}."
        if not running and name == "load":
            message += " Call /unload first."
        return Refusal(409, message, code="conflict")

    @property
    def _life(self) -> Lifecycle:
        return self._service.lifecycle

    def _plan(self, wish: Wish) -> Callable[[], Awaitable[None]] | None:
        """The work that a wish takes; None when there is nothing left to do."""
        if self._life.leaving:
            raise refusal.refused("draining", "This server is going away.")
        match wish.name, self._life.phase:
            case "load", "Starting" if self._service.config.is_standby:
                raise refusal.refused("loading", "The engine process is starting; ask again.")
            case "load", "Standby":
                assert wish.config, "an order to load names a model"
                return partial(self._load, wish.config)
            case "load", "Ready" if self._service.config == wish.config:
                return None
            case ("unload", "Standby") | ("wake_up", "Ready"):
                return None
            case "unload", "Ready" | "Draining" | "Asleep":
                return self._unload
            case "sleep", "Ready" | "Draining" | "Asleep":
                return partial(self._sleep, wish.level) if self.level < wish.level else None
            case "wake_up", "Asleep":
                return self._wake
        raise self.conflict(wish.name)

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._task = None

    async def _load(self, config: Config) -> None:
        service = self._service
        self._adopt(config)
        self._life.begin_load()
        reading = asyncio.create_task(asyncio.to_thread(self._shelf.take, config.model))
        answer = await service.engine.ask(Load(config.to_args()))
        texts = await _get_texts(reading)
        if isinstance(texts, Failed) and isinstance(answer, Loaded):
            await service.engine.ask(Unload())
        for outcome in (answer, texts):
            if isinstance(outcome, Failed):
                await self._vacate()
                raise _not_served(outcome)
        assert isinstance(texts, Texts), "all else was raised"
        service.texts = texts
        self._become_ready()

    async def _unload(self) -> None:
        await self._empty()
        _check(await self._service.engine.ask(Unload()))
        await self._vacate()

    async def _sleep(self, level: Level) -> None:
        await self._empty()
        _check(await self._service.engine.ask(Sleep(level)))
        self.level = self._service.metrics.sleep_level = level
        self._life.fall_asleep()

    async def _wake(self) -> None:
        self._life.begin_load()
        self.level = self._service.metrics.sleep_level = 0
        answer = await self._service.engine.ask(Wake())
        if isinstance(answer, Failed):
            await self._vacate()
            raise _not_served(answer)
        self._become_ready()

    async def _empty(self) -> None:
        """Refuse what is new, wait for what runs, cut it at the deadline."""
        if self._life.phase == "Asleep":
            return
        self._life.drain()
        engine = self._service.engine
        give_up_at = time.monotonic() + self._service.config.drain_deadline_s
        while engine.num_active and time.monotonic() < give_up_at:
            await asyncio.sleep(_TICK_S)
        engine.cut()

    def _become_ready(self) -> None:
        self._life.text_ready()
        if self._life.phase != "Ready":
            raise refusal.refused("draining", "This server is going away.")

    async def _vacate(self) -> None:
        """Forget the model; the gateway hears that it is gone before it hears nothing any more."""
        if self._life.phase == "Failed":  # the engine is gone, and this process follows it
            return
        self._life.drain()
        if self._announcer:
            await self._announcer.wait_heard(_LAST_ANNOUNCEMENT_S)
        self.level = 0
        self._service.texts = None
        self._adopt(self.vacant)
        self._life.stand_by()
        gc.collect()
        self._filling = asyncio.create_task(asyncio.to_thread(self._shelf.fill))

    def _adopt(self, config: Config) -> None:
        """What is answered, counted and announced from now on is this model's alone."""
        service = self._service
        service.config = config
        fresh = Metrics(config.model_name)
        for one in fields(Metrics):
            setattr(service.metrics, one.name, getattr(fresh, one.name))
        if self._announcer:
            self._announcer.target = read_target(config)


async def _get_texts(reading: asyncio.Task[Texts]) -> Texts | Failed:
    try:
        return await reading
    except StokerRuntimeError as error:
        return Failed(error.reason, str(error))


def _check(answer: Loaded | Settled | Failed) -> None:
    if isinstance(answer, Failed):
        raise _not_served(answer)


def _not_served(why: Failed) -> Refusal:
    """The engine refused, or could not. Its reason is what conditions carry."""
    log.error("%s: %s", why.reason, why.message)
    status = 500 if why.reason == "EngineCrashed" else 422
    return Refusal(status, why.message, code=why.reason)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever ordered it may be gone: its error is logged here, and not as one nobody took."""
    error = None if task.cancelled() else task.exception()
    if error and not isinstance(error, Refusal):
        log.error("a transition failed", exc_info=error)
