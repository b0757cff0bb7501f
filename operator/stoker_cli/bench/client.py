"""One streamed chat answer over HTTP, timed piece by piece.

Knows aiohttp, server-sent events and how each failure is called; does not know what is asked or
why. A failure is a sample with an error, never an exception.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any

import aiohttp

from stoker_cli.bench.measure import Sample

Message = dict[str, str]
_MAX_ERROR_BYTES = 64 << 10


class ServerUnusable(Exception):
    """The server can't be measured at all; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and how it is asked."""

    url: str
    """Up to and with `/v1`."""
    model: str = ""
    """Empty: the first that the server lists."""
    api_key: str = ""
    ignore_eos: bool = False
    """Ask for answers of full length (`ignore_eos`, which OpenAI itself does not know)."""
    timeout_s: float = 600.0


@dataclass(slots=True)
class _Answer:
    """What has arrived so far."""

    pieces: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    is_finished: bool = False
    """A finish reason came."""
    finished_at: float = 0.0


class _Failure(Exception):
    """Ends one request; the text is its kind."""


class Client(AbstractAsyncContextManager["Client"]):
    """A connection pool to one server."""

    def __init__(self, target: Target) -> None:
        """Nothing is sent yet. Enter it within a running event loop."""
        self.target = target
        headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        self._http = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._http.close()

    async def find_model(self) -> str:
        """The first model that the server lists. Raises `ServerUnusable`."""
        try:
            async with self._http.get(f"{self.target.url}/models") as response:
                if response.status != 200:
                    raise ServerUnusable(f"{response.url} says {await _describe(response)}")
                models = json.loads(await response.read())["data"]
                return str(models[0]["id"])
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ServerUnusable(f"{self.target.url} can't be reached: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ServerUnusable(f"{self.target.url}/models lists no model") from error

    async def ask(
        self, messages: Sequence[Message], max_tokens: int, due_at: float | None = None
    ) -> tuple[Sample, str]:
        """The sample and the text of one answer; `due_at` in seconds of `time.perf_counter`."""
        sent_at = time.perf_counter()
        answer, error = _Answer(), ""
        try:
            await self._stream(self._body(messages, max_tokens), answer)
        except _Failure as failure:
            error = str(failure)
        except (TimeoutError, aiohttp.ServerTimeoutError):
            error = "timeout"
        except aiohttp.ClientConnectorError:
            error = "can't connect"
        except (aiohttp.ClientError, OSError):
            error = "connection lost"
        scheduled_at = sent_at if due_at is None else due_at
        return _sample(answer, (scheduled_at, sent_at), error), "".join(answer.pieces)

    def _body(self, messages: Sequence[Message], max_tokens: int) -> dict[str, object]:
        body: dict[str, object] = {
            "model": self.target.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body | ({"ignore_eos": True} if self.target.ignore_eos else {})

    async def _stream(self, body: dict[str, object], answer: _Answer) -> None:
        url, limit = f"{self.target.url}/chat/completions", self.target.timeout_s
        timeout = aiohttp.ClientTimeout(total=limit)
        async with self._http.post(url, json=body, timeout=timeout) as response:
            if response.status != 200:
                raise _Failure(await _describe(response))
            if response.content_type != "text/event-stream":
                raise _Failure(f"not an event stream but {response.content_type}"[:80])
            async for event in _read_events(response.content):
                if event == b"[DONE]":
                    answer.finished_at = time.perf_counter()
                    return
                _take(answer, event, time.perf_counter())
        if not answer.is_finished:
            raise _Failure("stream ended early")


async def _describe(response: aiohttp.ClientResponse) -> str:
    """The status and the code of an error body, as `HTTP 429 rate_limit_exceeded`."""
    try:
        error = json.loads(await response.content.read(_MAX_ERROR_BYTES))["error"]
        code = str(error.get("code") or error.get("type") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        code = ""
    return f"HTTP {response.status} {code}"[:80].strip()


async def _read_events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The data of each event; comments and other fields are skipped."""
    rest = b""
    async for part in content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _take(answer: _Answer, event: bytes, now: float) -> None:
    try:
        chunk = json.loads(event)
        if error := chunk.get("error"):
            raise _Failure(f"error in the stream: {error.get('code') or error.get('type')}"[:80])
        answer.usage = dict(chunk.get("usage") or answer.usage)
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta", {})
            text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
            if text:
                answer.pieces.append(text)
                answer.times.append(now)
            answer.is_finished |= bool(choice.get("finish_reason"))
    except (ValueError, AttributeError, TypeError) as error:
        raise _Failure("an event that is no chunk") from error
    answer.finished_at = now


def _sample(answer: _Answer, began: tuple[float, float], error: str) -> Sample:
    usage, times = answer.usage, answer.times
    now = time.perf_counter()
    first, last = (times[0], times[-1]) if times else (None, None)
    if not error and first is None:
        first = last = answer.finished_at  # an answer whose only token ends it
    details = usage.get("prompt_tokens_details") or {}
    return Sample(
        scheduled_at=began[0],
        sent_at=began[1],
        ended_at=now if error else answer.finished_at,
        first_token_at=first,
        last_token_at=last,
        gaps_s=tuple(later - earlier for earlier, later in pairwise(times)),
        input_tokens=_count(usage, "prompt_tokens", 0),
        output_tokens=_count(usage, "completion_tokens", len(times)),
        cached_tokens=_count(details, "cached_tokens", 0),
        is_counted="completion_tokens" in usage,
        error=error,
    )


def _count(counts: object, name: str, other: int) -> int:
    """A number of tokens as the server tells it; `other` if it tells none."""
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) else other
