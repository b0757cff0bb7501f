"""Words to play with: two lists of plain English ones, and invented ones without end.

Everything here was written for this project, so it may be redistributed.
Used by `spelling` and `talk`.
"""

from __future__ import annotations

import random
from pathlib import Path

MAX_LETTERS = 12


def read_words(name: str) -> tuple[str, ...]:
    """The words of a text file beside this module."""
    return tuple(Path(__file__).with_name(name).read_text().split())


COMMON = read_words("common_words.txt")
"""Words that no chat uses otherwise: the tokenizer leaves them as letters."""
FAMILIAR = read_words("familiar_words.txt")
"""Words that the chats use, so that they are single tokens: their spelling is learned by heart."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ONSETS = (
    *"bcdfghjklmnpqrstvwxyz", "bl", "br", "ch", "cl", "cr", "dr", "fl", "gr", "kn", "pl", "pr",
    "sh", "sk", "sl", "sn", "sp", "st", "str", "th", "tr", "wh",
)  # fmt: skip
_VOWELS = (*"aeiouaeiou", "ai", "au", "ea", "ee", "ei", "ie", "oa", "oo", "ou", "y")
_CODAS = (
    "", "", "", *"bdgklmnprstx", "ck", "ll", "mp", "nd", "ng", "nt", "rd", "rk", "rn", "rt", "ss",
    "st", "th",
)  # fmt: skip


def draw_word(rng: random.Random) -> str:
    """Two to twelve letters: a plain word, a pronounceable one, or any; a few are capitalised."""
    kind = rng.random()
    if kind < 0.28:
        return rng.choice(COMMON)
    if kind < 0.35:
        return rng.choice(FAMILIAR)
    word = _pronounceable(rng) if kind < 0.7 else _any_letters(rng)
    return word.capitalize() if rng.random() < 0.1 else word


def quote(rng: random.Random, word: str) -> str:
    """The word as people write it in a request: in quotes of either kind, or bare."""
    return rng.choice(("{}", "{}", "'{}'", "'{}'", '"{}"')).format(word)


def _pronounceable(rng: random.Random) -> str:
    syllables = (
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
        for _ in range(rng.randrange(1, 4))
    )
    return "".join(syllables)[:MAX_LETTERS]


def _any_letters(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randrange(2, MAX_LETTERS + 1)))
