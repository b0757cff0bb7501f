"""Tokens to text as they come: whole characters only, and nothing past a stop string.

Knows bytes, UTF-8 and stop strings; does not know what the tokens mean or who reads the text. One
`Detokenizer` and one `StopFinder` per answer, fed by the server with what the engine made.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Protocol

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Vocabulary(Protocol):
    """What a detokenizer asks of a tokenizer."""

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token."""

    def is_special(self, id: int) -> bool:
        """Whether it is a control token."""


class Detokenizer:
    """Turns tokens into text; bytes of an unfinished character wait for the rest of it.

    Tokens are pieces of bytes, not of text: "é" may come as 0xC3 and 0xA9. Joining all that `push`
    and `flush` return gives the same text as decoding all bytes at once.
    """

    def __init__(self, vocabulary: Vocabulary, *, skip_special: bool = True) -> None:
        """Start an empty answer; `skip_special` leaves control tokens out of the text."""
        self._vocabulary = vocabulary
        self._skip_special = skip_special
        self._decoder = _new_decoder("replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that these tokens complete."""
        vocabulary = self._vocabulary
        if self._skip_special:
            ids = [id for id in ids if not vocabulary.is_special(id)]
        return self._decoder.decode(b"".join(map(vocabulary.token_bytes, ids)))

    def flush(self) -> str:
        """What is left at the end: a replacement sign for a character that never got whole."""
        return self._decoder.decode(b"", True)


class StopFinder:
    """Passes text on up to the first stop string, and never a beginning of one too early."""

    def __init__(self, stops: Sequence[str], *, include_stop: bool = False) -> None:
        """Look for `stops`; `include_stop` keeps the found one in the text."""
        self._stops = stops
        self._include_stop = include_stop
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """The text that is safe to show; `found` is set when a stop string ended it."""
        if not self._stops or not text:
            return text
        text = self._held + text
        ends = [(end, stop) for stop in self._stops if (end := _end_of(stop, text)) >= 0]
        if ends:
            end, self.found = min(ends, key=lambda hit: (hit[0], -len(hit[1])))
            self._held = ""
            return text[: end if self._include_stop else end - len(self.found)]
        safe = len(text) - max(_overlap(stop, text) for stop in self._stops)
        self._held = text[safe:]
        return text[:safe]

    def flush(self) -> str:
        """The held text: it only looked like the beginning of a stop string."""
        held, self._held = self._held, ""
        return held


def _end_of(stop: str, text: str) -> int:
    """Where the first `stop` in `text` ends; -1 without one."""
    at = text.find(stop)
    return at if at < 0 else at + len(stop)


def _overlap(stop: str, text: str) -> int:
    """Length of the longest end of `text` that begins `stop` and is not all of it.

    "</s" ends with a beginning of "</stop>" (3); so does "a<" (1), but "a" does not (0).
    """
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return len(text) - at
        at = text.find(stop[0], at + 1)
    return 0
