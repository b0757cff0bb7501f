"""A chat server that misbehaves in the way its model is named, for what a load generator must bear.

Knows HTTP only as far as it breaks it; does not know who asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SSE = "content-type: text/event-stream\r\n"
_CHUNK = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
_LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def event(data: object) -> str:
    """One server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


WORDS = event(_CHUNK) * 3
ERROR = {"error": {"message": "no", "type": "server_error", "param": None, "code": "boom"}}
BAD = {
    "good": ("200 OK", SSE, WORDS + event(_LAST) + event(_USAGE) + event("[DONE]")),
    "no-usage": ("200 OK", SSE, WORDS + event(_LAST) + event("[DONE]")),
    "no-done": ("200 OK", SSE, WORDS + event(_LAST) + event(_USAGE)),
    "cut-short": ("200 OK", SSE, WORDS),
    "drops": ("200 OK", SSE + "content-length: 100000\r\n", WORDS),
    "resets": ("", "", ""),
    "garbage": ("200 OK", SSE, WORDS + event("{]")),
    "list": ("200 OK", SSE, WORDS + event("[1]")),
    "stream-error": ("200 OK", SSE, WORDS + event(ERROR)),
    "odd-usage": ("200 OK", SSE, WORDS + event(_LAST) + event({"usage": {"prompt_tokens": "x"}})),
    "plain": ("200 OK", "content-type: application/json\r\n", "{}"),
    "busy": ("429 Too Many", "content-type: application/json\r\n", json.dumps(ERROR)),
    "broken": ("500 Oh", "content-type: text/html\r\n", "<html>"),
    "comments": (
        "200 OK",
        SSE,
        ": hello\n\nevent: x\r\n" + WORDS.replace("\n", "\r\n") + event("[DONE]"),
    ),
}
"""Model → status line, headers, body; the connection is closed after it."""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if head.startswith("GET"):
        body = json.dumps({"data": [{"id": "good"}]})
        status, headers = "200 OK", ""
    else:
        length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
        model = json.loads(await reader.readexactly(length))["model"]
        if model == "hangs":
            await reader.read()
        status, headers, body = BAD.get(model, ("", "", ""))
    if status:
        text = f"HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}"
        writer.write(text.encode())
        await writer.drain()
    writer.close()


@asynccontextmanager
async def run_odd_server() -> AsyncIterator[str]:
    """The base URL of a running one."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
