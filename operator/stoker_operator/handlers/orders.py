"""Orders to runtimes that are on their way, and how each ended: nobody waits for one.

Knows the answers of the admin port and when to ask again; does not know deployments or pools.
Whoever wants something done calls `ensure` at every look, with the same order, and acts on what it
returns; all of it can be lost, since every order may be given again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from stoker_operator.cluster.admin import AdminPorts, Answer, Call
from stoker_operator.cluster.standby import SaidState, read_state
from stoker_operator.errors import LeaseLost, RuntimeGone, RuntimeSilent

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
PATIENCE = 3
"""Times in a row that a pod may be unreachable before it is given up."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one pod is to do."""

    uid: str
    call: Call
    restarts: int = 0
    """Of its container: a new process has to be told again."""
    num_preload: int = 0
    """Folders that `/state` is to be asked about until the pod is done with them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended, or where it is."""

    state: SaidState = field(default_factory=SaidState)
    failure: tuple[str, str] | None = None
    """Reason and message, when it was refused or the pod is gone."""


class Orders:
    """One order at a time for each pod."""

    def __init__(self, ports: AdminPorts) -> None:
        self._ports = ports
        self._orders: dict[str, Order] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._outcomes: dict[str, Outcome] = {}

    def ensure(self, order: Order, tell: Callable[[], None]) -> Outcome | None:
        """Begin an order that is not on its way yet; how it ended, once it has.

        `tell` is called when there is something new to look at.
        """
        if self._orders.get(order.uid) != order:
            self.forget(order.uid)
            self._orders[order.uid] = order
            task = asyncio.create_task(self._carry_out(order, tell), name=f"order {order.uid}")
            self._tasks[order.uid] = task
        return self._outcomes.get(order.uid)

    def outcome(self, uid: str, path: str) -> Outcome | None:
        """How the order of that path to a pod ended, if that is what it was told last."""
        order = self._orders.get(uid)
        return self._outcomes.get(uid) if order is not None and order.call.path == path else None

    def forget(self, uid: str) -> None:
        """The pod is gone, or is told something else."""
        self._orders.pop(uid, None)
        self._outcomes.pop(uid, None)
        task = self._tasks.pop(uid, None)
        if task is not None:
            task.cancel()

    def keep(self, known: Collection[str]) -> None:
        """Forget all pods but these."""
        for uid in [uid for uid in self._orders if uid not in known]:
            self.forget(uid)

    async def stop(self) -> None:
        """Ask no more."""
        tasks = list(self._tasks.values())
        self.keep(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, order: Order, tell: Callable[[], None]) -> None:
        try:
            if order.call.path == "/state":
                await self._follow(order, tell)
            else:
                self._end(order, await self._persist(order.call), tell)
        except LeaseLost:
            self._orders.pop(order.uid, None)  # whoever leads gives it again
        except Exception as error:  # an order that broke must not look as if it were on its way
            logger.exception("order to %s failed", order.call.address)
            self._end(order, Outcome(failure=("EngineCrashed", repr(error))), tell)

    def _end(self, order: Order, outcome: Outcome, tell: Callable[[], None]) -> None:
        self._outcomes[order.uid] = outcome
        tell()

    async def _follow(self, order: Order, tell: Callable[[], None]) -> None:
        """Ask where a pod stands until it waits with all that it should hold in memory."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                answer = await self._ports.call(order.call)
            except (RuntimeSilent, RuntimeGone):
                answer = Answer(0)
            state = read_state(answer.body) if answer.status == 200 else SaidState()
            known = self._outcomes.get(order.uid)
            if known is None or known.state != state:
                self._end(order, Outcome(state), tell)
                pause_s = FIRST_PAUSE_S
            if state.phase == "Standby" and state.num_preloaded >= order.num_preload:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)

    async def _persist(self, call: Call) -> Outcome:
        """Ask until there is an answer: an order that is equal to what runs joins it.

        No time is too long for a load that goes on; a pod that neither answers this nor says where
        it stands is given up.
        """
        gone = 0
        while True:
            try:
                answer = await self._ports.call(call)
            except RuntimeSilent:
                gone = 0 if await self._lives(call) else gone + 1
            except RuntimeGone as error:
                gone += 1
                logger.warning("%s of %s: %s", call.path, call.address, error)
                await asyncio.sleep(FIRST_PAUSE_S)
            else:
                if answer.status == 200:
                    return Outcome(read_state(answer.body))
                if not _is_starting(answer):
                    return Outcome(failure=_read_refusal(answer))
                gone = 0
                await asyncio.sleep(FIRST_PAUSE_S)
            if gone >= PATIENCE:
                return Outcome(failure=("Unreachable", f"{call.address} does not answer."))

    async def _lives(self, call: Call) -> bool:
        try:
            answer = await self._ports.call(Call(call.address, "/state", call.token))
        except (RuntimeSilent, RuntimeGone):
            return False
        return answer.status == 200


def _is_starting(answer: Answer) -> bool:
    """503 `loading`: the process is up and its engine is not yet."""
    return answer.status == 503 and _read_refusal(answer)[0] == "loading"


def _read_refusal(answer: Answer) -> tuple[str, str]:
    error = answer.body.get("error", {})
    return str(error.get("code") or answer.status), str(error.get("message", ""))
