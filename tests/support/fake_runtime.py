"""A runtime pod without a model: speaks the contract on a real socket, and misbehaves on request.

Built on aiohttp's server, so that the gateway's own HTTP code meets another's. Tests set
`behaviour` and look at what was seen.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Behaviour = Literal["answer", "full", "draining", "loading", "close", "break", "error"]

PROMPT_TOKENS = 7


@dataclass
class FakeRuntime:
    """One pod."""

    slots: int = 4
    token: str = ""
    num_tokens: int = 4
    pause_s: float = 0
    """Between two tokens."""
    ready: bool = True
    phase: str = "Loading"
    reason: str = ""
    behaviour: list[Behaviour] = field(default_factory=list)
    """What to do with the next requests; then answer."""
    gate: asyncio.Event | None = None
    """Hold answers until it is set."""
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    num_running: int = 0
    max_running: int = 0
    num_aborted: int = 0
    num_probes: int = 0
    address: str = ""

    async def __aenter__(self) -> FakeRuntime:
        app = web.Application()
        app.router.add_get("/ready", self._ready)
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.address = "{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _ready(self, request: web.Request) -> web.Response:
        self.num_probes += 1
        if self.ready:
            return web.json_response({"slots": self.slots})
        body = {"phase": self.phase, "reason": self.reason, "message": f"{self.reason} here"}
        return web.json_response(body, status=503)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path_qs)
        self.seen.append(body)
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            return await self._behave(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.num_aborted += 1
            raise
        finally:
            self.num_running -= 1

    async def _behave(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.json_response({"error": {"code": "invalid_api_key"}}, status=401)
        behaviour = self.behaviour.pop(0) if self.behaviour else "answer"
        if behaviour in ("full", "draining", "loading"):
            return web.Response(status=503, headers={"x-stoker-refused": behaviour})
        if self.gate:
            await self.gate.wait()
        if behaviour == "error":
            error = {"message": "too long", "type": "invalid_request_error", "param": None}
            return web.json_response({"error": error | {"code": "too_long"}}, status=400)
        if behaviour == "close":
            assert request.transport
            request.transport.abort()
            return web.Response()
        if body.get("stream"):
            asks_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return await self._stream(request, behaviour == "break", asks_usage)
        return web.json_response(_completion(self.num_tokens, request.path))

    async def _stream(
        self, request: web.Request, broken: bool, asks_usage: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for index in range(self.num_tokens):
            await response.write(b"data: " + json.dumps(_chunk(index)).encode() + b"\n\n")
            if broken:
                assert request.transport
                request.transport.abort()
            await asyncio.sleep(self.pause_s)
        if asks_usage:
            last = {"choices": [], "usage": _usage(self.num_tokens)}
            await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _usage(num_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": num_tokens}


def _chunk(index: int) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": f"t{index} "}, "finish_reason": None}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "chat"}
    return head | {"choices": [choice]}


def _completion(num_tokens: int, path: str) -> dict[str, Any]:
    content = "".join(f"t{index} " for index in range(num_tokens))
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    choice["message"]["content"] = content
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "chat", "path": path}
    return head | {"choices": [choice], "usage": _usage(num_tokens)}
