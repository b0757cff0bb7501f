"""Requests of a story, sent with the real `openai` client, and what became of each.

It knows how to ask and what to note down; it never retries, so a lost request is seen.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import openai

_TIMEOUT_S = 300.0


def make_client(url: str, api_key: str) -> openai.OpenAI:
    """A client that never retries."""
    return openai.OpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=_TIMEOUT_S)


@dataclass(slots=True)
class Ask:
    """One request: instants in unix seconds, the text, and the error if there was one."""

    started_at: float = 0.0
    first_token_at: float = 0.0
    ended_at: float = 0.0
    text: str = ""
    finish_reason: str = ""
    error: openai.APIError | None = None

    @property
    def lost(self) -> bool:
        """Neither an answer that came to its end nor anything else the client can use."""
        return self.error is not None or not self.finish_reason

    @property
    def ttft_s(self) -> float:
        """Seconds from sending to the first token."""
        return self.first_token_at - self.started_at


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one deployment through the gateway, with one client that is made beforehand."""

    client: openai.OpenAI
    model: str
    max_tokens: int = 16

    def ask(self, prompt: str = "What is 27 + 15?") -> Ask:
        """Stream one chat to its end; an API error is noted, not raised."""
        done = Ask(started_at=time.time())
        try:
            self._stream(prompt, done)
        except openai.APIError as error:
            done.error = error
        done.ended_at = time.time()
        return done

    def _stream(self, prompt: str, done: Ask) -> None:
        chunks = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=self.max_tokens,
            temperature=0,
            stream=True,
        )
        for chunk in chunks:
            for choice in chunk.choices:
                if choice.delta.content:
                    done.first_token_at = done.first_token_at or time.time()
                    done.text += choice.delta.content
                done.finish_reason = choice.finish_reason or done.finish_reason

    def start(self, prompt: str = "What is 27 + 15?") -> "Pending":
        """Ask in a thread; the caller goes on."""
        return Pending(self, prompt)

    def ask_together(self, count: int) -> list[Ask]:
        """`count` requests at the same time, each in a thread; returns when all have ended."""
        return finish([self.start() for _ in range(count)])


class Pending(threading.Thread):
    """A request on its way."""

    def __init__(self, asker: Asker, prompt: str) -> None:
        super().__init__(daemon=True)
        self._asker, self._prompt = asker, prompt
        self._done: Ask | None = None
        self.start()

    def run(self) -> None:
        """The thread's body."""
        self._done = self._asker.ask(self._prompt)

    def result(self) -> Ask:
        """Wait for the end."""
        self.join()
        assert self._done is not None, "the request's thread ended without a result"
        return self._done


def finish(pending: Sequence[Pending]) -> list[Ask]:
    """Wait for all."""
    return [one.result() for one in pending]
