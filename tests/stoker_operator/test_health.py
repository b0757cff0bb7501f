"""Probes and metrics over real sockets."""

from __future__ import annotations

import json

import aiohttp
from aiohttp import web

from stoker_operator.health import serve_health, serve_metrics


async def _get(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


def _port(runner: web.AppRunner) -> int:
    return next(address[1] for address in runner.addresses if len(address) == 2)


async def test_probes_say_what_the_checks_say() -> None:
    state = {"ready": False}
    runner = await serve_health(0, alive=lambda: True, ready=lambda: state["ready"])
    port = _port(runner)
    assert (await _get(port, "/healthz"))[0] == 200
    assert (await _get(port, "/readyz"))[0] == 503
    state["ready"] = True
    assert (await _get(port, "/readyz"))[0] == 200
    await runner.cleanup()


async def test_metrics_are_in_the_text_format() -> None:
    runner = await serve_metrics(0, lambda key: [])
    status, text = await _get(_port(runner), "/metrics")
    assert status == 200
    assert "# TYPE stoker_operator_writes_total counter" in text
    assert "# TYPE stoker_cold_start_seconds histogram" in text
    await runner.cleanup()


async def test_the_last_day_of_a_deployment_is_told() -> None:
    days: dict[str, list[tuple[int, ...]]] = {"ns/chat": [(29920920, 4, 3, 200, 50)]}
    runner = await serve_metrics(0, lambda key: days.get(key, []))
    port = _port(runner)
    told = json.loads((await _get(port, "/arrivals/ns/chat"))[1])
    assert told["columns"] == ["minute", "requests", "peak", "input_tokens", "output_tokens"]
    assert told["minutes"] == [[29920920, 4, 3, 200, 50]]
    assert json.loads((await _get(port, "/arrivals/ns/other"))[1])["minutes"] == []
    await runner.cleanup()
