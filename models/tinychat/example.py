"""One question with its only right answer, and which side of the held-out split it belongs to.

It does not know the tasks. Every task builds `Example`s; `curriculum` keeps the two sides apart by
`is_held_out`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

# One key in sixteen is never trained on.
HELD_OUT_SHARE = 16


@dataclass(frozen=True, slots=True)
class Example:
    """A single-turn exchange that can be graded by exact match."""

    task: str
    """Name of the task, the row in the accuracy table."""
    key: str
    """What is asked without its wording, such as `add 47 85`: the split goes by this."""
    question: str
    """What the user says."""
    answer: str
    """The whole text the assistant has to say."""
    ends_talk: bool = False
    """The conversation is over after this answer (a farewell)."""


def is_held_out(key: str) -> bool:
    """True if no phrasing of `key` may be trained on; depends on nothing but the key."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0


def is_right(expected: str, said: str) -> bool:
    """Exact match of the whole answer; only white space around it is forgiven."""
    return expected.strip() == said.strip()


def phrase(rng: random.Random, forms: Sequence[str], **operands: object) -> str:
    """Word a request in one of `forms`, at times politer or in lower case; operands stay."""
    form = rng.choice(forms)
    if form[0].isupper() and rng.random() < 0.2:
        form = form[0].lower() + form[1:]
    if form[-1] in ".?" and rng.random() < 0.25:
        form = form[:-1]
    if rng.random() < 0.08:
        form = rng.choice(("Hi! ", "Hello, ", "Please: ", "Question: ", "Quick one: ")) + form
    if form[-1].isalpha() and rng.random() < 0.1:
        form += " please"
    return form.format(**operands)
