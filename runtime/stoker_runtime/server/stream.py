"""A streamed answer: server-sent events, one write per engine step.

Knows the order of the chunks and their JSON, most of it rendered once per answer; does not know the
engine or HTTP's framing. While a client reads too slowly nothing is written, and what came
meanwhile becomes one chunk.
"""

from __future__ import annotations

import msgspec

from stoker_runtime.server.exchange import Exchange
from stoker_runtime.server.generation import Choice, Delta, Generation
from stoker_runtime.server.logprobs import Json
from stoker_runtime.server.payload import (
    FINGERPRINT,
    AnswerPlan,
    prepend_echo,
    render_logprobs,
    usage,
)

_json = msgspec.json.Encoder().encode
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": keep-alive\n\n"
_ROLE = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'


class EventStream:
    """Writes one generation to one exchange; `flush` is called once per engine step."""

    def __init__(self, exchange: Exchange, generation: Generation, plan: AnswerPlan) -> None:
        """Nothing is written before the first token: until then an error has a status."""
        self._exchange = exchange
        self._generation = generation
        self._plan = plan
        self._is_chat, self._tells_usage = plan.ask.is_chat, plan.ask.include_usage
        self._unended = list(generation.choices)
        self._echoing = {at for at, text in enumerate(plan.echoes) if text and not self._is_chat}
        """Answers whose prompt is still to be shown."""
        self._opened = False
        self._silent = True
        """Nothing was written since the last `keep_alive`."""
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        common: Json = {"id": plan.id, "object": kind, "created": plan.created}
        common |= {"model": plan.ask.model, "system_fingerprint": FINGERPRINT}
        self._common = b"data: " + _json(common)[:-1]
        self._prefixes = [
            self._common + b',"choices":[{"index":%d,' % choice.index
            for choice in generation.choices
        ]

    def flush(self) -> None:
        """Write what is new, in one write."""
        exchange, finished = self._exchange, self._generation.finished
        if self._generation.failure:
            self._fail()
            return
        if exchange.ended or (exchange.paused and not finished):
            return
        parts = [] if self._opened else self._open()
        for choice in self._unended:
            parts += self._chunks(choice)
        self._unended = [c for c in self._unended if c.finish_reason is None]
        if finished:
            if self._tells_usage:
                counts = _json(usage(self._generation))
                parts.append(self._common + b',"choices":[],"usage":' + counts + b"}\n\n")
            exchange.end(b"".join(parts) + _DONE)
        elif parts:
            self._silent = False
            exchange.write(b"".join(parts))

    def keep_alive(self) -> None:
        """Called now and then: say something if nothing was said since the last call."""
        if self._silent and not self._exchange.ended and not self._exchange.paused:
            head = [] if self._opened else self._open()
            self._exchange.write(b"".join(head) + _COMMENT)
        self._silent = True

    def _open(self) -> list[bytes]:
        """The head, and the roles, which come before the first token."""
        self._opened = True
        self._exchange.begin()
        if not self._is_chat:
            return []
        return [prefix + _ROLE + self._tail() for prefix in self._prefixes]

    def _chunks(self, choice: Choice) -> list[bytes]:
        """What a step brought for one answer: text, its end, both or nothing."""
        delta = choice.take()
        if choice.started and choice.index in self._echoing:
            self._echoing.remove(choice.index)
            delta = prepend_echo(self._plan, choice, delta)
        chunks = [self._content(choice, delta)] if delta.text or delta.entries else []
        if choice.finish_reason is not None:
            body = b'"delta":{}' if self._is_chat else b'"text":""'
            reasons = choice.finish_reason.encode(), _json(choice.stop_reason)
            end = b'%b,"logprobs":null,"finish_reason":"%b","stop_reason":%b}]' % (body, *reasons)
            chunks.append(self._prefixes[choice.index] + end + self._tail())
        return chunks

    def _content(self, choice: Choice, delta: Delta) -> bytes:
        text, logprobs = _json(delta.text), b"null"
        if delta.entries:
            logprobs = _json(render_logprobs(self._plan, choice, delta))
        body = b'"delta":{"content":%b}' % text if self._is_chat else b'"text":' + text
        end = b'%b,"logprobs":%b,"finish_reason":null}]' % (body, logprobs)
        return self._prefixes[choice.index] + end + self._tail()

    def _tail(self) -> bytes:
        """The end of a chunk; with usage asked for, all chunks but the last have none."""
        if self._plan.ask.continuous_usage:
            return b',"usage":' + _json(usage(self._generation)) + b"}\n\n"
        return b',"usage":null}\n\n' if self._tells_usage else b"}\n\n"

    def _fail(self) -> None:
        """Say in the stream what went wrong, if the status is already gone."""
        failure = self._generation.failure
        if failure and self._exchange.started and not self._exchange.ended:
            self._exchange.end(b"data: " + failure.body + b"\n\n")
