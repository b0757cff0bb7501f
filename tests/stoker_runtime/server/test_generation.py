"""Answers that grow: the same text, however the tokens come, and every token counted."""

from __future__ import annotations

import asyncio
import codecs
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.wire import Output, TokenLogprob
from support.letters import END, Letters

CUTS = st.lists(st.integers(0, 100))


def feed(choice: Choice, ids: list[int], cuts: list[int], reason: Any = "length") -> str:
    """Feed runs of tokens, taking after each; what was shown."""
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    runs = [ids[a:b] for a, b in pairwise(edges)] or [[]]
    shown = ""
    for at, run in enumerate(runs):
        logprobs = [TokenLogprob(id, -1.0) for id in run]
        last = reason if at == len(runs) - 1 else None
        choice.feed(Output("1", run, last, 0, logprobs, [[entry] for entry in logprobs]))
        shown += choice.take().text
    return shown


def answer(ids: list[int], rules: TextRules) -> tuple[str, int, str]:
    """What the rules say, token by token over the whole text: text, number of tokens, end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, begin = "", 0
    for at, id in enumerate([*ids, None]):
        shown = id is not None and not (rules.skip_special and id == END)
        text += decoder.decode(Letters().token_bytes(id) if shown else b"", id is None)
        num_tokens = min(at + 1, len(ids))
        if num_tokens < rules.min_tokens:
            begin = len(text)
            continue
        found = [(text.find(s, begin) + len(s), -len(s)) for s in rules.stops if s in text[begin:]]
        if found:
            end, length = min(found)
            return text[: end if rules.include_stop else end + length], num_tokens, "stop"
    return text, len(ids), "length"


RULES = st.builds(
    TextRules,
    stops=st.lists(st.text("abé€\ufffd", min_size=1, max_size=3), max_size=3).map(tuple),
    min_tokens=st.integers(0, 5),
    include_stop=st.booleans(),
    skip_special=st.booleans(),
    logprobs=st.booleans(),
)
TOKENS = st.lists(st.sampled_from([*"abé€".encode(), END]), min_size=1, max_size=20)


@given(TOKENS | st.text("abé€", min_size=1).map(lambda text: list(text.encode())), RULES, CUTS)
def test_text_is_what_the_rules_say_for_any_run_of_tokens(
    ids: list[int], rules: TextRules, cuts: list[int]
) -> None:
    choice = Choice(0, Letters(), rules)
    shown = feed(choice, ids, cuts)
    assert (shown, choice.num_tokens, choice.finish_reason) == answer(ids, rules)


def test_the_end_token_is_counted_and_not_shown() -> None:
    choice = Choice(0, Letters(), TextRules(skip_special=False))
    assert feed(choice, [97, END], [], "stop") == "a"
    assert (choice.num_tokens, choice.finish_reason) == (2, "stop")


def test_the_end_token_is_shown_when_asked_for() -> None:
    choice = Choice(0, Letters(), TextRules(skip_special=False, include_stop=True))
    assert feed(choice, [97, END], [], "stop") == "a<end>"


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    choice = Choice(0, Letters(), TextRules())
    assert feed(choice, list("a€".encode())[:-1], [1, 2]) == "a\ufffd"


def test_a_stop_string_ends_before_the_engine_does() -> None:
    choice = Choice(0, Letters(), TextRules(stops=("END",)))
    assert feed(choice, list(b"oneENDtwo"), range(10), None) == "one"
    assert (choice.finish_reason, choice.num_tokens) == ("stop", 6)


def test_a_stop_string_does_not_count_before_min_tokens() -> None:
    choice = Choice(0, Letters(), TextRules(stops=("a",), min_tokens=3))
    assert feed(choice, list(b"aaba"), [1, 2, 3], None) == "aab"


@pytest.mark.parametrize("stop", [(), ("z",), ("d",)])
def test_every_shown_token_has_its_logprob(stop: tuple[str, ...]) -> None:
    choice = Choice(0, Letters(), TextRules(stops=stop, logprobs=True))
    text, entries = "", []
    for id in b"abcde":
        choice.feed(Output("1", [id], None, 0, [TokenLogprob(id, -1.0)]))
        delta = choice.take()
        text += delta.text
        entries += delta.entries
        assert len(entries) == len(text)
    assert [chr(entry.token.token_id) for entry in entries] == list(text)
    assert [entry.offset for entry in entries] == list(range(len(text)))


def test_logprobs_wait_with_the_text_that_is_held_back() -> None:
    choice = Choice(0, Letters(), TextRules(stops=("bcX",), logprobs=True))
    counts = []
    for id in b"abcd":
        choice.feed(Output("1", [id], None, 0, [TokenLogprob(id, -1.0)]))
        delta = choice.take()
        counts.append((delta.text, len(delta.entries)))
    assert counts == [("a", 1), ("", 0), ("", 0), ("bcd", 3)]


def test_cached_tokens_come_with_the_first_token() -> None:
    choice = Choice(0, Letters(), TextRules())
    for cached in (16, 0):
        choice.feed(Output("1", [97], None, cached))
    assert choice.num_cached_tokens == 16


@pytest.mark.parametrize(
    ("cached", "per_prompt", "counted"),
    [([0, 16], 1, 16), ([0, 16], 2, 0), ([16, 32, 0, 8], 2, 16)],
)
async def test_cached_tokens_of_a_prompt_are_those_of_its_first_answer(
    cached: list[int], per_prompt: int, counted: int
) -> None:
    choices = [Choice(at, Letters(), TextRules()) for at in range(len(cached))]
    for choice, number in zip(choices, cached, strict=True):
        choice.feed(Output("1", [97], None, number))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert Generation(choices, 0, done, 99, per_prompt).cached_tokens == counted


def test_nothing_is_added_after_the_end() -> None:
    choice = Choice(0, Letters(), TextRules(stops=("a",)))
    choice.feed(Output("1", [97]))
    choice.feed(Output("1", [98], "length"))
    assert (choice.take().text, choice.num_tokens, choice.finish_reason) == ("", 1, "stop")
