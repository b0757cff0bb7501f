"""Answers generation requests: prompt to ids, ids to the engine, tokens to the client.

Knows the limits of the model, admission and who waits for what; does not know paths or keys. Called
by the routes; it alone starts sequences, and aborts them when a client is gone.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import msgspec

from stoker_runtime.config import Config
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server import refusal
from stoker_runtime.server.defaults import SamplingDefaults
from stoker_runtime.server.engine_client import EngineClient
from stoker_runtime.server.exchange import Exchange
from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.server.metrics import Metrics
from stoker_runtime.server.openai import COMPLETION_TOKENS, Ask
from stoker_runtime.server.payload import AnswerPlan, whole
from stoker_runtime.server.refusal import Refusal, invalid
from stoker_runtime.server.stream import EventStream
from stoker_runtime.server.texts import Texts, beside_streams
from stoker_runtime.wire import Loaded

KEEP_ALIVE_S = 15.0
"""A stream that had nothing to say for so long sends a comment; proxies cut silent ones."""
_MAX_WAITING = 1024
"""Sequences that may wait when no gateway does the waiting."""
_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Service:
    """The one model of this process."""

    config: Config
    lifecycle: Lifecycle
    engine: EngineClient
    metrics: Metrics
    texts: Texts | None = None
    """None until loaded."""

    @property
    def defaults(self) -> SamplingDefaults:
        """Of requests that leave fields out."""
        return self.texts.defaults if self.texts else SamplingDefaults()

    @property
    def created(self) -> int:
        """When the model was made: the same for all pods, and at every call."""
        try:
            return int((self.config.model / "config.json").stat().st_mtime)
        except OSError:
            return int(self.lifecycle.ends["container"])

    @property
    def max_active(self) -> int:
        """Sequences taken at once, running and waiting.

        Behind a gateway few may wait here, because what waits here can't go to another pod: with 32
        slots, 8. Started by hand there is no other place to wait.
        """
        slots = self.lifecycle.slots
        return slots + (max(2, slots // 4) if self.config.announce_url else _MAX_WAITING)

    def check_room(self, num_sequences: int) -> Refusal | None:
        """Why so many more sequences can't be taken. A free slot takes a request of any size."""
        active = self.engine.num_active
        if active < self.lifecycle.slots or active + num_sequences <= self.max_active:
            return None
        return self._too_many()

    def _too_many(self) -> Refusal:
        """A gateway asks another pod at once; a client on its own has to wait."""
        if self.config.announce_url:
            return refusal.refused("full", "All slots are taken; ask again.")
        return refusal.overloaded()

    async def answer(self, exchange: Exchange, ask: Ask) -> None:
        """Answer one request, whole or streamed. Raises `Refusal` before the first byte."""
        texts, loaded = self._get_model(ask.model)
        arrived_at = asyncio.get_running_loop().time()
        prompts = await beside_streams(
            lambda hurried: texts.encode(ask, loaded.max_model_len, hurried=hurried),
            exchange.request.body,
        )
        if texts is not self.texts:  # the model went away meanwhile
            raise self.lifecycle.refuse_work() or refusal.model_not_found(ask.model)
        sequences = _plan_sequences(ask, prompts, loaded)
        full = self.check_room(len(sequences))
        if full:
            raise full
        generation = Generation(
            choices=[Choice(i, texts.tokenizer, _rules(ask)) for i in range(len(sequences))],
            arrived_at=arrived_at,
            done=asyncio.get_running_loop().create_future(),
            prompt_tokens=sum(map(len, prompts)),
            num_per_prompt=ask.n,
            priority=ask.priority,
            cache_salt=ask.cache_salt,
            max_tokens=sequences[0][1].max_tokens,
        )
        plan = self._plan_answer(ask, texts, tuple(ids for ids, _ in sequences))
        await self._run(exchange, generation, sequences, plan)

    async def _run(
        self,
        exchange: Exchange,
        generation: Generation,
        sequences: list[tuple[list[int], SamplingParams]],
        plan: AnswerPlan,
    ) -> None:
        stream = EventStream(exchange, generation, plan) if plan.ask.stream else None
        if stream:
            generation.on_progress = exchange.on_writable = stream.flush
        try:
            self.engine.submit(generation, sequences)
            while stream and not await _is_done_within(generation, KEEP_ALIVE_S):
                stream.keep_alive()
            await generation.done
            if generation.failure:
                raise self._too_many() if generation.overloaded else generation.failure
            if not stream:
                exchange.send(200, _json(whole(plan, generation)))
        finally:
            self.engine.release(generation)
            self.metrics.observe_end(generation, asyncio.get_running_loop().time())

    def _get_model(self, name: str) -> tuple[Texts, Loaded]:
        if name != self.config.model_name:
            raise refusal.model_not_found(name)
        why = self.lifecycle.refuse_work()
        texts, loaded = self.texts, self.lifecycle.loaded
        if why or texts is None or loaded is None:
            raise why or refusal.internal_error()
        return texts, loaded

    def _plan_answer(self, ask: Ask, texts: Texts, prompts: tuple[list[int], ...]) -> AnswerPlan:
        echoes = [texts.echo(prompt) if ask.echo else "" for prompt in ask.prompts or ("",)]
        return AnswerPlan(
            id=("chatcmpl-" if ask.is_chat else "cmpl-") + os.urandom(16).hex(),
            created=int(time.time()),
            ask=ask,
            vocabulary=texts.tokenizer,
            echoes=[echo for echo in echoes for _ in range(ask.n)],
            prompts=prompts,
        )


async def _is_done_within(generation: Generation, seconds: float) -> bool:
    done, _ = await asyncio.wait((generation.done,), timeout=seconds)
    return bool(done)


def _rules(ask: Ask) -> TextRules:
    return TextRules(
        stops=ask.stops,
        min_tokens=ask.params.min_tokens,
        stop_ids=ask.params.stop_token_ids,
        silent=ask.max_tokens == 0,
        include_stop=ask.include_stop,
        skip_special=ask.skip_special,
        logprobs=ask.params.logprobs is not None,
    )


def _plan_sequences(
    ask: Ask, prompts: list[list[int]], loaded: Loaded
) -> list[tuple[list[int], SamplingParams]]:
    """One sequence per prompt and choice. Raises `Refusal` when it can't fit the model."""
    _check_ids(ask, prompts, loaded.vocab_size)
    sequences: list[tuple[list[int], SamplingParams]] = []
    for ids in prompts:
        max_tokens = _answer_tokens(ask, len(ids), loaded.max_model_len)
        for number in range(ask.n):
            seed = ask.params.seed
            params = msgspec.structs.replace(
                ask.params,
                max_tokens=max(max_tokens, 1),  # a prompt's scores come with a token
                min_tokens=min(ask.params.min_tokens, max_tokens),
                seed=None if seed is None else _choice_seed(seed, number),
            )
            sequences.append((ids, params))
    return sequences


def _choice_seed(seed: int, number: int) -> int:
    """Choices of one request differ, and are the same when it is sent again."""
    return (seed + number) % 2**63


def _answer_tokens(ask: Ask, prompt_tokens: int, limit: int) -> int:
    """How long the answer may get. Nothing is cut in silence: what can't fit is refused."""
    param = "messages" if ask.is_chat else "prompt"
    room = limit - prompt_tokens
    if room < 1:
        raise refusal.context_too_long(limit, prompt_tokens, 0, param)
    if ask.max_tokens is None:
        return room if ask.is_chat else min(room, COMPLETION_TOKENS)
    if ask.max_tokens > room:
        raise refusal.context_too_long(limit, prompt_tokens, ask.max_tokens, param)
    return ask.max_tokens


def _check_ids(ask: Ask, prompts: list[list[int]], vocab_size: int) -> None:
    """Ids that a client names must be ones the model has."""
    given = {
        "prompt": map(max, prompts),
        "logit_bias": ask.params.logit_bias,
        "stop_token_ids": ask.params.stop_token_ids,
    }
    for name, ids in given.items():
        worst = max(ids, default=0)
        if worst >= vocab_size:
            param = "messages" if ask.is_chat and name == "prompt" else name
            raise invalid(f"`{param}`: token id {worst} is not below {vocab_size}", param)
