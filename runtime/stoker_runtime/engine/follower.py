"""A rank that does not lead: it repeats on its share of a model what the leader does on its own.

Knows orders and its own tenancy; does not know requests, schedules or draws. Started by the leader
(`ranks`), and ended with it: a link that closes ends this process at once.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable

from stoker_runtime.config import Config, parse_config
from stoker_runtime.engine.failure import explain
from stoker_runtime.engine.link import Link
from stoker_runtime.engine.machine import observe_machine
from stoker_runtime.engine.orders import (
    Agreed,
    Clear,
    Compute,
    Order,
    Proposed,
    Score,
    Tables,
    WarmUp,
    Work,
)
from stoker_runtime.engine.resident import Residents
from stoker_runtime.engine.tenancy import Tenancy
from stoker_runtime.errors import EngineCrashed
from stoker_runtime.parallel.share import Share
from stoker_runtime.wire import Load, Sleep, Unload, Wake

log = logging.getLogger(__name__)
_FOR_EVER_S = 3600.0


class _CalledOff(Exception):
    """The leader let go of the model before all ranks had it."""


class Leader:
    """The leader, as a follower sees it."""

    def __init__(self, share: Share, link: Link[Order]) -> None:
        self.share = share
        self.has_agreed = False
        """Since the model that moves in was asked for."""
        self._link = link
        self._orders: deque[Order] = deque()

    def take(self) -> Order:
        """The next order; waits for it without using a processor."""
        while not self._orders:
            self._orders.extend(self._link.take(_FOR_EVER_S))
        return self._orders.popleft()

    def tell(self, order: Order) -> None:
        """See `ranks.Peers`: only the leader tells."""

    def agree(self, num_blocks: int) -> Agreed:
        """See `ranks.Peers`."""
        self._link.send(Proposed(num_blocks))
        match self.take():
            case Agreed() as agreed:
                self.has_agreed = True
                return agreed
            case _:
                raise _CalledOff

    def call_off(self) -> None:
        """See `ranks.Peers`: the leader hears of it by a reply."""

    def together(self, work: Work) -> contextlib.AbstractContextManager[None]:
        """See `ranks.Peers`: the leader is at it already."""
        return contextlib.nullcontext()


class Follower:
    """Does what it is told until the link closes."""

    def __init__(self, config: Config, link: Link[Order], share: Share) -> None:
        self._config = config
        self._link = link
        self._leader = Leader(share, link)
        self._machine = observe_machine().divide(share)
        self._tables = Tables()
        residents = Residents(config, self._machine, lambda said: None)
        residents.start()
        self._tenancy = Tenancy(residents, lambda phase: None, self._leader)

    def run(self) -> None:
        """For ever."""
        while True:
            self._obey(self._leader.take())

    def _obey(self, order: Order) -> None:
        tenancy = self._tenancy
        match order:
            case WarmUp():
                tenancy.warm_up(self._config, self._machine)
            case Load(flags):
                self._move(lambda: tenancy.load(parse_config(flags, {})))
            case Wake():
                self._move(tenancy.wake)
            case Sleep(level):
                tenancy.sleep(level)
            case Unload():
                tenancy.unload()
            case Compute() | Score() | Clear():
                self._work(order)
            case Agreed():
                raise EngineCrashed("agreed to a proposal that nobody made")

    def _move(self, move: Callable[[], object]) -> None:
        """Take a model in; the leader hears why that failed, and then is the one to let go of it.

        After all had agreed the leader waits for tensors, and only the end of this process ends it.
        """
        self._leader.has_agreed = False
        try:
            move()
        except _CalledOff:
            log.info("the model was called off")
        except Exception as error:
            if self._leader.has_agreed:
                raise
            self._link.send(explain(error))

    def _work(self, work: Work) -> None:
        import torch  # not before: it is the load that imports it

        engine = self._tenancy.engine
        assert engine, "the leader's model is awake, and so is its share here"
        runner, model = engine.runner, engine.runner.model
        match work:
            case Compute():
                runner.compute(self._tables.restore(work))
            case Score(num_rows):
                size = (num_rows, model.spec.hidden_size)
                runner.score(torch.empty(size, dtype=model.dtype, device=model.device))
            case Clear(block_ids):
                runner.clear(block_ids)
