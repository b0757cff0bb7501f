"""One request's answers while they grow: from the engine's tokens to text that may be shown.

Knows detokenisation, stop strings, log probabilities and when an answer ends; does not know JSON,
HTTP or the socket to the engine. Fed by the engine client, read by streams and plain answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from stoker_runtime.server.refusal import OVERLOADED, Refusal
from stoker_runtime.text.detokenize import Detokenizer, StopFinder, Vocabulary
from stoker_runtime.wire import Output, TokenLogprob


@dataclass(frozen=True, slots=True)
class TextRules:
    """How tokens become the text of an answer."""

    stops: tuple[str, ...] = ()
    min_tokens: int = 0
    """No stop string counts before so many tokens."""
    stop_ids: tuple[int, ...] = ()
    """Ids of the request that end the answer."""
    silent: bool = False
    """No answer is wanted, only the prompt's echo and log probabilities."""
    include_stop: bool = False
    skip_special: bool = True
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One token's log probability, and where its text begins in the answer."""

    token: TokenLogprob
    top: tuple[TokenLogprob, ...]
    offset: int
    known: bool = True
    """False for the first token of a prompt, which nothing precedes."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What became sure of an answer since it was last asked."""

    text: str
    entries: list[TokenEntry]


class Choice:
    """One answer."""

    def __init__(self, index: int, vocabulary: Vocabulary, rules: TextRules) -> None:
        """Start empty; `index` is its place among the request's answers."""
        self.index = index
        self.num_tokens = 0
        self.num_cached_tokens = 0
        self.finish_reason: str | None = None
        self.stop_reason: str | int | None = None
        """The stop string or id of the request that ended the answer."""
        self.started = False
        """The engine has made a token."""
        self.prompt_logprobs: list[list[TokenLogprob]] = []
        """Per prompt token but the first: its own, then the likeliest; when asked for."""
        self.queued_s = 0.0
        self.prefill_s = 0.0
        self._rules = rules
        self._detokenizer = Detokenizer(vocabulary, skip_special=rules.skip_special)
        self._stops = StopFinder(rules.stops, include_stop=rules.include_stop)
        self._pending: list[str] = []
        self._shown = 0
        """Characters handed out."""
        self._passed = 0
        """Characters that tokens have made, shown or held."""
        self._entries: list[TokenEntry] = []

    def feed(self, output: Output) -> None:
        """Take what one step made."""
        if self.finish_reason is not None:
            return
        if not self.started:
            self._begin(output)
        ids, reason = output.token_ids, output.finish_reason
        if self._rules.silent:
            self.finish_reason = "length"
            return
        ended_by_token = reason == "stop" and not self._rules.include_stop
        visible = len(ids) - 1 if ended_by_token and ids else len(ids)
        if self._rules.stops or self._rules.logprobs:
            for at in range(visible):
                self._step(output, at)
                if self.finish_reason is not None:
                    return
            self.num_tokens += len(ids) - visible
        else:
            self.num_tokens += len(ids)
            self._pending.append(self._detokenizer.push(ids[:visible]))
        if reason is not None:
            self._finish(reason)
        if reason == "stop" and ids and ids[-1] in self._rules.stop_ids:
            self.stop_reason = ids[-1]

    def take(self) -> Delta:
        """What is new and sure; it is handed out once."""
        text = "".join(self._pending)
        self._pending.clear()
        self._shown += len(text)
        if not self._entries:
            return Delta(text, [])
        done = self.finish_reason is not None
        sure = [entry for entry in self._entries if done or entry.offset < self._shown]
        self._entries = self._entries[len(sure) :]
        return Delta(text, sure)

    def _begin(self, output: Output) -> None:
        """What comes once, with the first token."""
        self.started = True
        self.num_cached_tokens = output.num_cached_tokens
        self.prompt_logprobs = output.prompt_logprobs
        self.queued_s, self.prefill_s = output.queued_s, output.prefill_s

    def _step(self, output: Output, at: int) -> None:
        """One token, where its place in the text matters."""
        self.num_tokens += 1
        if self._rules.logprobs:
            top = tuple(output.top_logprobs[at]) if output.top_logprobs else ()
            self._entries.append(TokenEntry(output.logprobs[at], top, self._passed))
        self._pass(self._detokenizer.push((output.token_ids[at],)))

    def _pass(self, text: str) -> None:
        self._passed += len(text)
        if self.num_tokens < self._rules.min_tokens:
            self._pending.append(text)
            return
        self._pending.append(self._stops.push(text))
        if self._stops.found is not None:
            self.finish_reason, self.stop_reason = "stop", self._stops.found
            end = self._shown + sum(map(len, self._pending))
            self._entries = [entry for entry in self._entries if entry.offset < end]

    def _finish(self, reason: str) -> None:
        """The engine's end: nothing held back may get lost."""
        self._pass(self._detokenizer.flush())
        if self.finish_reason is None:
            self._pending.append(self._stops.flush())
            self.finish_reason = reason


@dataclass(slots=True, eq=False)
class Generation:
    """All answers of one request."""

    choices: list[Choice]
    arrived_at: float
    """Seconds of the event loop's clock, as all instants here."""
    done: asyncio.Future[None]
    """Set when the last answer ended, or with `failure`."""
    prompt_tokens: int = 0
    """Of all prompts, each counted once, however many answers it gets."""
    num_per_prompt: int = 1
    """Answers per prompt; those of one prompt stand side by side in `choices`."""
    priority: int = 0
    cache_salt: str = ""
    max_tokens: int = 0
    """Of each answer."""
    on_progress: Callable[[], None] | None = None
    """Called once per engine step that brought something."""
    failure: Refusal | None = None
    first_token_at: float = 0.0
    last_token_at: float = 0.0

    @property
    def finished(self) -> bool:
        """No answer grows any more."""
        if self.failure is None:
            for choice in self.choices:
                if choice.finish_reason is None:
                    return False
        return True

    @property
    def overloaded(self) -> bool:
        """It failed because too many wait."""
        return self.failure is not None and self.failure.code == OVERLOADED

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(choice.num_tokens for choice in self.choices)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were not computed again.

        Of a prompt's answers the least counts: the others found what the first had computed.
        """
        cached = [choice.num_cached_tokens for choice in self.choices]
        n = self.num_per_prompt
        return sum(min(cached[at : at + n]) for at in range(0, len(cached), n))

    def publish(self) -> None:
        """Show progress to whoever writes the answer."""
        if self.on_progress:
            self.on_progress()
        if self.finished and not self.done.done():
            self.done.set_result(None)
