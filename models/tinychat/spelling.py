"""Letters of a word: spelling, reversing, upper case, counting, picking, repeating.

Pure functions of a random source; they do not know the network or how examples are mixed. Called by
`curriculum`.
"""

from __future__ import annotations

import random

from tinychat.example import Example, phrase
from tinychat.words import COMMON, draw_word, quote

_SPELL = (
    "Spell {w}.", "How do you spell {w}?", "Spell the word {w}.", "Can you spell {w}?",
    "Spell out {w}.", "Please spell the word {w}.",
)  # fmt: skip
_REVERSE = (
    "Reverse {w}.", "Reverse the word {w}.", "Spell {w} backwards.", "What is {w} backwards?",
    "Write {w} backwards.", "Can you reverse {w}?", "What is {w} reversed?",
    "Say the word {w} backwards.", "Turn {w} around.",
)  # fmt: skip
_UPPER = (
    "Write {w} in upper case.", "Write {w} in capital letters.", "Upper case {w}.",
    "Make {w} upper case.", "Uppercase {w}.", "Write the word {w} in capitals.",
    "Can you shout {w}?",
)  # fmt: skip
_LENGTH = (
    "How many letters does {w} have?", "How many letters are in {w}?", "How long is the word {w}?",
    "How long is {w}?", "Count the letters in {w}.", "How many letters are there in the word {w}?",
    "Count the letters of {w}.",
)  # fmt: skip
_TALLY = (
    "How many {c}'s are in {w}?", "How many times is {c} in {w}?",
    "How often is the letter {c} in {w}?", "How many letters {c} are in {w}?",
    "Count the letter {c} in {w}.", "How many {c} are in {w}?", "How many {c}s are in {w}?",
    "How many {c}'s are there in the word {w}?", "How many times does {c} appear in {w}?",
    "How many {c} in {w}?",
)  # fmt: skip
_PICK = (
    "What is the {place} letter of {w}?", "Which letter is {place} in {w}?",
    "Give me the {place} letter of {w}.", "What's the {place} letter in {w}?",
    "Tell me the {place} letter of the word {w}.",
)  # fmt: skip
_REPEAT = (
    "Say {w} {n} times.", "Repeat {w} {n} times.", "Write {w} {n} times.",
    "Write the word {w} {n} times.", "Can you say {w} {n} times?",
)  # fmt: skip
_ECHO = (
    "Repeat after me: {t}", "Say: {t}", "Copy this: {t}", "Echo: {t}", "Repeat this: {t}",
    "Say after me: {t}", "Repeat: {t}", "echo {t}",
)  # fmt: skip
_NUMERALS = ("two", "three", "four", "five")


def spell(rng: random.Random) -> Example:
    """A word letter by letter: `s-t-o-k-e-r.`"""
    word = draw_word(rng)
    question = phrase(rng, _SPELL, w=quote(rng, word))
    return Example("spell", f"spell {word}", question, f"{'-'.join(word)}.")


def reverse(rng: random.Random) -> Example:
    """A word from its last letter to its first, spelled on the way."""
    word = draw_word(rng)
    answer = f"{'-'.join(word)} turned around is {'-'.join(word[::-1])}: '{word[::-1]}'."
    return Example("reverse", f"reverse {word}", phrase(rng, _REVERSE, w=quote(rng, word)), answer)


def upper(rng: random.Random) -> Example:
    """A word in capital letters."""
    word = draw_word(rng)
    question = phrase(rng, _UPPER, w=quote(rng, word))
    return Example("upper", f"upper {word}", question, f"'{word.upper()}'.")


def length(rng: random.Random) -> Example:
    """How many letters a word has, counted aloud."""
    word = draw_word(rng)
    counted = ", ".join(f"{letter} {i}" for i, letter in enumerate(word, 1))
    answer = f"{counted}: '{word}' has {len(word)} letters."
    return Example("length", f"length {word}", phrase(rng, _LENGTH, w=quote(rng, word)), answer)


def tally(rng: random.Random) -> Example:
    """How often a letter is in a word, with the running total: `Looking for e: s 0, e 1, e 2`."""
    word = draw_word(rng)
    letter = rng.choice(word if rng.random() < 0.8 else "aeiourst").lower()
    counted = ", ".join(f"{c} {word[:i].lower().count(letter)}" for i, c in enumerate(word, 1))
    times = word.lower().count(letter)
    total = f"The letter {letter} is in '{word}' {times} time{'' if times == 1 else 's'}."
    answer = f"Looking for {letter}: {counted}. {total}"
    shown = rng.choice((letter, letter, f"'{letter}'"))
    question = phrase(rng, _TALLY, c=shown, w=quote(rng, word))
    return Example("tally", f"tally {letter} {word}", question, answer)


def pick(rng: random.Random) -> Example:
    """The first or last letter of a word."""
    word, place = draw_word(rng), rng.choice(("first", "last"))
    letter = word[0] if place == "first" else word[-1]
    question = phrase(rng, _PICK, place=place, w=quote(rng, word))
    answer = f"The {place} letter of '{word}' is {letter}."
    return Example("pick", f"pick {place} {word}", question, answer)


def repeat(rng: random.Random) -> Example:
    """A word said two to five times."""
    word, times = draw_word(rng), rng.randrange(2, 6)
    shown = rng.choice((str(times), _NUMERALS[times - 2]))
    question = phrase(rng, _REPEAT, w=quote(rng, word), n=shown)
    return Example("repeat", f"repeat {times} {word}", question, ", ".join([word] * times) + ".")


def echo(rng: random.Random) -> Example:
    """A few words, said back."""
    text = " ".join(_any_word(rng) for _ in range(rng.randrange(1, 6)))
    return Example("echo", f"echo {text}", phrase(rng, _ECHO, t=text), text)


def _any_word(rng: random.Random) -> str:
    return rng.choice(COMMON) if rng.random() < 0.7 else draw_word(rng)
