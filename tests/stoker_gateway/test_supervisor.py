"""Whole gateways in processes of their own: signals, crashes, announcements among workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiohttp

from support.fake_runtime import FakeRuntime
from support.gateway_process import GatewayProcess, gateway_process

ANNOUNCEMENT = {"namespace": "default", "deployment": "chat", "pod": "chat-1", "phase": "Ready"}
CHAT = {"model": "chat", "stream": True}


def workers_of(gateway: GatewayProcess) -> list[int]:
    pid = gateway.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def ask(gateway: GatewayProcess) -> tuple[int, str]:
    url = f"{gateway.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=CHAT) as answer:
        return answer.status, await answer.text()


async def announce(gateway: GatewayProcess, runtime: FakeRuntime, worker: int = 0) -> None:
    said = ANNOUNCEMENT | {"address": runtime.address, "slots": runtime.slots}
    url = f"{gateway.internal[worker]}/internal/announce"
    async with aiohttp.ClientSession() as session, session.post(url, json=said) as answer:
        assert answer.status == 204


async def num_held(gateway: GatewayProcess) -> int:
    total = 0
    async with aiohttp.ClientSession() as session:
        for url in gateway.internal:
            async with session.get(f"{url}/metrics") as answer:
                for line in (await answer.text()).splitlines():
                    if line.startswith("stoker_gateway_queued{"):
                        total += int(float(line.split()[-1]))
    return total


async def held(gateway: GatewayProcess, num: int) -> None:
    async with asyncio.timeout(5):
        while await num_held(gateway) != num:
            await asyncio.sleep(0.02)


async def test_held_requests_of_all_workers_survive_sigterm_and_the_exit_code_is_0() -> None:
    async with gateway_process(drain_accept_s=0.1) as gateway, FakeRuntime() as runtime:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(20)]
        await held(gateway, 20)
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        await announce(gateway, runtime)
        answers = await asyncio.wait_for(asyncio.gather(*asking), 10)
        assert {status for status, _ in answers} == {200}
        assert all(text.endswith("data: [DONE]\n\n") for _, text in answers)
        assert await asyncio.wait_for(gateway.process.wait(), 5) == 0


async def test_an_announcement_to_any_worker_reaches_all() -> None:
    async with gateway_process() as gateway, FakeRuntime(slots=32) as runtime:
        await announce(gateway, runtime, worker=1)
        answers = await asyncio.wait_for(asyncio.gather(*(ask(gateway) for _ in range(20))), 10)
        assert {status for status, _ in answers} == {200}
        assert await num_held(gateway) == 0


async def test_a_crashed_worker_is_replaced_and_the_other_keeps_its_requests() -> None:
    async with gateway_process() as gateway, FakeRuntime(slots=32) as runtime:
        asking = [asyncio.create_task(ask(gateway)) for _ in range(12)]
        await held(gateway, 12)
        victim = workers_of(gateway)[0]
        os.kill(victim, signal.SIGKILL)
        await asyncio.sleep(0.1)
        await gateway.started()
        assert victim not in workers_of(gateway)
        assert len(workers_of(gateway)) == 2
        await announce(gateway, runtime)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, BaseException)]
        assert 0 < len(lost) < 12
        assert all(isinstance(answer, aiohttp.ClientError) for answer in lost)


async def test_a_worker_that_hangs_is_replaced() -> None:
    """Stopped, it still has its listening socket: a share of all new connections would wait."""
    async with gateway_process(worker_hung_s=3) as gateway, FakeRuntime(slots=32) as runtime:
        hung = workers_of(gateway)[0]
        os.kill(hung, signal.SIGSTOP)
        async with asyncio.timeout(30):
            while hung in workers_of(gateway) or len(workers_of(gateway)) < 2:
                await asyncio.sleep(0.05)
        await gateway.started()
        await announce(gateway, runtime)
        answers = await asyncio.wait_for(asyncio.gather(*(ask(gateway) for _ in range(20))), 10)
        assert {status for status, _ in answers} == {200}


async def test_workers_drain_and_end_when_their_parent_is_killed() -> None:
    async with gateway_process(drain_accept_s=0) as gateway:
        workers = workers_of(gateway)
        gateway.process.kill()
        await gateway.process.wait()
        async with asyncio.timeout(5):
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    while True:
                        os.kill(pid, 0)
                        await asyncio.sleep(0.02)
