"""Announcements among siblings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from stoker_gateway import fanout
from stoker_gateway.fanout import Fanout
from stoker_gateway.routing import Pod
from support.gateway import Gateway, running_gateway, until
from support.gateway_process import free_ports


def announcement(phase: str) -> bytes:
    said = '{"namespace":"default","deployment":"chat","pod":"p","address":"127.0.0.1:1"'
    return f'{said},"phase":"{phase}","slots":1}}'.encode()


def pod_of(gateway: Gateway) -> Pod | None:
    lane = gateway.worker.fleet.get("default/chat")
    return lane.routes.get("p") if lane else None


@asynccontextmanager
async def fanout_to(port: int) -> AsyncIterator[Fanout]:
    couriers = Fanout([port])
    task = asyncio.create_task(couriers.run())
    try:
        yield couriers
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_announcements_arrive_in_order_and_are_not_sent_on() -> None:
    async with running_gateway() as gateway:
        heard: list[str] = []
        sent_on: list[bytes] = []
        gateway.worker.backends.announce = lambda said: heard.append(said.phase)
        gateway.worker.fanout.send = lambda authorization, body: sent_on.append(body)
        async with fanout_to(int(gateway.internal_url.rpartition(":")[2])) as couriers:
            for phase in ("Starting", "Loading", "Ready", "Draining"):
                couriers.send(b"", announcement(phase))
            await until(lambda: len(heard) == 4)
        assert heard == ["Starting", "Loading", "Ready", "Draining"]
        assert sent_on == []


async def test_a_sibling_that_comes_up_late_still_hears() -> None:
    port = free_ports(1)
    async with fanout_to(port) as couriers:
        couriers.send(b"", announcement("Ready"))
        await asyncio.sleep(0.02)
        async with running_gateway(internal_port=port) as gateway:
            await until(lambda: pod_of(gateway))


def test_a_sibling_that_is_stuck_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MAX_PENDING", 2)
    couriers = Fanout([1])
    for _ in range(5):
        couriers.send(b"", b"x")
    assert couriers._queues[1].qsize() == 2
