"""Orders to runtimes: given once, carried on until answered, given up when nobody is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from stoker_operator.cluster.admin import Answer, Call
from stoker_operator.cluster.standby import SaidState
from stoker_operator.errors import LeaseLost, RuntimeGone, RuntimeSilent
from stoker_operator.handlers import orders as module
from stoker_operator.handlers.orders import PATIENCE, Order, Orders, Outcome

READY = Answer(200, {"phase": "Ready", "path": "warm"})
STANDBY = Answer(200, {"phase": "Standby"})
LOADING = Answer(503, {"error": {"code": "loading"}})
Reply = Answer | Exception


class Script:
    """An admin port that answers as written, the last line again and again."""

    def __init__(self, **replies: list[Reply]) -> None:
        self.replies = {f"/{path}": lines for path, lines in replies.items()}
        self.calls: list[str] = []

    async def call(self, call: Call) -> Answer:
        """See `AdminPorts`."""
        self.calls.append(call.path)
        lines = self.replies[call.path]
        reply = lines.pop(0) if len(lines) > 1 else lines[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a test are short."""
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.002)


def _order(path: str = "/load", **more: int) -> Order:
    return Order("u", Call("10.0.0.1:8001", path), **more)


async def _ended(orders: Orders, order: Order, holds: Callable[[Outcome], bool]) -> Outcome:
    """The outcome as soon as it is as wanted."""
    async with asyncio.timeout(10):
        while True:
            outcome = orders.ensure(order, lambda: None)
            if outcome is not None and holds(outcome):
                return outcome
            await asyncio.sleep(0.001)


async def _result(port: Script) -> Outcome:
    return await _ended(Orders(port), _order(), lambda outcome: True)


async def test_whoever_gave_an_order_is_told_of_its_end() -> None:
    told = asyncio.Event()
    orders = Orders(Script(load=[READY]))
    assert orders.ensure(_order(), told.set) is None
    await asyncio.wait_for(told.wait(), 10)
    assert orders.ensure(_order(), told.set) is not None
    await orders.stop()


async def test_an_order_is_given_once_however_often_it_is_wanted() -> None:
    port = Script(load=[READY])
    orders = Orders(port)
    for _ in range(3):
        orders.ensure(_order(), lambda: None)
    outcome = await _ended(orders, _order(), lambda outcome: True)
    assert outcome == Outcome(SaidState("Ready", "warm"))
    assert port.calls == ["/load"]


async def test_an_engine_that_is_not_up_yet_is_asked_again() -> None:
    assert (await _result(Script(load=[LOADING, LOADING, READY]))).failure is None


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer(409, {"error": {"code": "conflict", "message": "m"}}), ("conflict", "m")),
        (Answer(422, {"error": {"code": "CheckpointBroken"}}), ("CheckpointBroken", "")),
        (Answer(401), ("401", "")),
        (Answer(503, {"error": {"code": "draining"}}), ("draining", "")),
        (Answer(500, {"error": {"code": "EngineCrashed"}}), ("EngineCrashed", "")),
    ],
)
async def test_a_refusal_is_final_and_keeps_its_words(
    answer: Answer, failure: tuple[str, str]
) -> None:
    port = Script(load=[answer])
    assert (await _result(port)).failure == failure
    assert port.calls == ["/load"]


async def test_a_load_that_takes_long_is_joined_again_while_the_pod_lives() -> None:
    silence: list[Reply] = [RuntimeSilent()] * 8
    port = Script(load=[*silence, READY], state=[Answer(200, {"phase": "Loading"})])
    assert (await _result(port)).failure is None
    assert port.calls.count("/load") == 9


@pytest.mark.parametrize("state", [RuntimeSilent(), RuntimeGone(), Answer(500)], ids=repr)
async def test_a_pod_that_says_nothing_at_all_is_given_up(state: Reply) -> None:
    port = Script(load=[RuntimeSilent()], state=[state])
    failure = (await _result(port)).failure
    assert failure is not None
    assert failure[0] == "Unreachable"
    assert port.calls.count("/load") == PATIENCE


async def test_a_broken_connection_is_tried_again_before_the_pod_is_given_up() -> None:
    assert (await _result(Script(load=[RuntimeGone(), RuntimeGone(), READY]))).failure is None
    failure = (await _result(Script(load=[RuntimeGone()]))).failure
    assert failure == ("Unreachable", "10.0.0.1:8001 does not answer.")


async def test_a_standby_is_followed_until_it_holds_all_that_it_should() -> None:
    folders = {"a": {"bytes": 5}, "b": {"bytes": 0, "error": "no room"}}
    port = Script(
        state=[
            RuntimeGone(),
            Answer(200, {"phase": "Starting"}),
            STANDBY,
            Answer(200, {"phase": "Standby", "residents": {"a": {"bytes": 5}}}),
            Answer(200, {"phase": "Standby", "residents": folders}),
        ]
    )
    order = _order("/state", num_preload=2)
    outcome = await _ended(Orders(port), order, lambda outcome: outcome.state.num_preloaded == 2)
    assert outcome.state.residents == {"a"}
    await asyncio.sleep(0.02)
    assert len(port.calls) == 5, "and then it is left in peace"


async def test_another_order_or_another_process_takes_the_place_of_the_first() -> None:
    port = Script(load=[READY], unload=[STANDBY])
    orders = Orders(port)
    await _ended(orders, _order(), lambda outcome: True)
    assert orders.ensure(_order("/unload"), lambda: None) is None
    assert orders.outcome("u", "/load") is None
    assert orders.ensure(replace(_order("/unload"), restarts=1), lambda: None) is None
    outcome = await _ended(orders, replace(_order("/unload"), restarts=1), lambda outcome: True)
    assert outcome.state.phase == "Standby"


async def test_what_is_known_of_pods_that_are_gone_is_forgotten() -> None:
    orders = Orders(Script(load=[READY]))
    orders.ensure(_order(), lambda: None)
    orders.keep({"another"})
    assert orders.outcome("u", "/load") is None
    orders.forget("u")


async def test_an_order_of_a_process_that_does_not_lead_any_more_is_no_failure() -> None:
    port = Script(load=[LeaseLost(), READY])
    orders = Orders(port)
    orders.ensure(_order(), lambda: None)
    outcome = await _ended(orders, _order(), lambda outcome: True)
    assert outcome.failure is None
    assert port.calls == ["/load", "/load"], "given again once it leads"


async def test_an_order_that_breaks_does_not_seem_to_be_on_its_way() -> None:
    failure = (await _result(Script(load=[KeyError("odd")]))).failure
    assert failure is not None
    assert "odd" in failure[1]
