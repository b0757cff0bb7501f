"""How many tokens requests bring, without a tokenizer: bytes, and what answers tell of them.

Knows bodies' sizes and the `usage` of answers; pure. A body's bytes stand for as many tokens as
those of answered requests did: the ratio is that of two decayed sums, which begin with 4 bytes a
token and follow about the last 200 answers that tell their usage (streams tell when asked to).
Each deployment has one, for tokenizers and chat templates differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FIRST_BYTES_PER_TOKEN = 4.0
"""English in the tokenizers of today, before an answer has told."""
PRIOR_TOKENS = 64.0
"""Weight of that guess, in tokens."""
KEPT_SHARE = 1 - 1 / 200
"""What is left of the sums after one more answer."""
TAIL_BYTES = 512
"""The end of an answer in which its usage is looked for."""

_PROMPT = re.compile(rb'"(?:prompt|input)_tokens":\s*([0-9]{1,9})')
_ANSWER = re.compile(rb'"(?:completion|output)_tokens":\s*([0-9]{1,9})')


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer says of itself."""

    prompt_tokens: int
    answer_tokens: int


def find_usage(tail: bytes) -> Usage | None:
    """The `usage` at the end of an answer, plain or streamed; text inside strings never matches."""
    prompt, answer = _PROMPT.findall(tail), _ANSWER.findall(tail)
    if not prompt:
        return None
    return Usage(int(prompt[-1]), int(answer[-1]) if answer else 0)


class TokenCount:
    """The tokens of one deployment's requests at one worker."""

    def __init__(self) -> None:
        self.arrived = 0.0
        """Prompt tokens that ever came, each request as estimated when it came."""
        self.completed = 0.0
        """Tokens ever made; an answer without usage counts as a mean one."""
        self._bytes = FIRST_BYTES_PER_TOKEN * PRIOR_TOKENS
        self._tokens = PRIOR_TOKENS
        self._answer_tokens = 0.0
        self._answers = 0.0

    @property
    def bytes_per_token(self) -> float:
        """Bytes of a body for each token of its prompt."""
        return self._bytes / self._tokens

    def estimate(self, num_bytes: int) -> float:
        """Prompt tokens of bodies of so many bytes."""
        return num_bytes / self.bytes_per_token

    def come(self, num_bytes: int) -> None:
        """A request comes."""
        self.arrived += self.estimate(num_bytes)

    def end(self, num_bytes: int, usage: Usage | None) -> None:
        """A request of that size was answered."""
        if usage is None:
            self.completed += self._answer_tokens / self._answers if self._answers else 0.0
            return
        self.completed += usage.answer_tokens
        self._answer_tokens = KEPT_SHARE * self._answer_tokens + usage.answer_tokens
        self._answers = KEPT_SHARE * self._answers + 1
        if usage.prompt_tokens:
            self._bytes = KEPT_SHARE * self._bytes + num_bytes
            self._tokens = KEPT_SHARE * self._tokens + usage.prompt_tokens
