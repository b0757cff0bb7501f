"""Text from tokens: nothing lost, nothing too early, whatever the bytes and the cuts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.text.detokenize import Detokenizer, StopFinder


class Bytes:
    """Token `n` is byte `n`; 256 is a control token written `<end>`."""

    def token_bytes(self, id: int) -> bytes:
        return b"<end>" if id == 256 else bytes([id])

    def is_special(self, id: int) -> bool:
        return id == 256


def pieces(ids: list[int], cuts: list[int]) -> list[list[int]]:
    """The ids cut into runs, as steps of any size would bring them."""
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    return [ids[begin:end] for begin, end in pairwise(edges)]


@given(st.lists(st.integers(0, 255)), st.lists(st.integers(0, 1000)))
def test_joined_deltas_equal_the_whole_text_for_any_bytes(ids: list[int], cuts: list[int]) -> None:
    detokenizer = Detokenizer(Bytes())
    deltas = [detokenizer.push(run) for run in pieces(ids, cuts)]
    assert "".join(deltas) + detokenizer.flush() == bytes(ids).decode("utf-8", "replace")


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_no_delta_holds_a_broken_character_of_good_text(text: str, cuts: list[int]) -> None:
    detokenizer = Detokenizer(Bytes())
    deltas = [detokenizer.push(run) for run in pieces(list(text.encode()), cuts)]
    assert "".join(deltas) == text
    assert detokenizer.flush() == ""


def test_a_character_waits_for_its_last_byte() -> None:
    detokenizer = Detokenizer(Bytes())
    assert [detokenizer.push([byte]) for byte in "é€😀".encode()] == (
        ["", "é", "", "", "€", "", "", "", "😀"]
    )


def test_half_a_character_at_the_end_becomes_one_replacement_sign() -> None:
    detokenizer = Detokenizer(Bytes())
    assert detokenizer.push("€".encode()[:2]) == ""
    assert detokenizer.flush() == "\ufffd"


@pytest.mark.parametrize(("skip", "text"), [(True, "ab"), (False, "a<end>b")])
def test_control_tokens_are_left_out_unless_asked_for(skip: bool, text: str) -> None:
    assert Detokenizer(Bytes(), skip_special=skip).push([97, 256, 98]) == text


def run(finder: StopFinder, deltas: list[str]) -> str:
    """What a reader sees."""
    shown = ""
    for delta in deltas:
        shown += finder.push(delta)
        if finder.found is not None:
            return shown
    return shown + finder.flush()


def first_end(text: str, stops: list[str]) -> int | None:
    """Reading character by character: where the first stop string is complete."""
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stops)]
    return min(ends, default=None)


LETTERS = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3)


@given(LETTERS, STOPS, st.lists(st.integers(0, 1000)))
def test_stop_strings_cut_the_same_however_the_text_comes(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    deltas = [text[begin:end] for begin, end in pairwise(edges)]
    end = first_end(text, stops)
    finder = StopFinder(stops)
    shown = run(finder, deltas)
    if end is None:
        assert (shown, finder.found) == (text, None)
    else:
        longest = max((s for s in stops if text[:end].endswith(s)), key=len)
        assert (shown, finder.found) == (text[: end - len(longest)], longest)


@given(LETTERS, STOPS)
def test_nothing_shown_is_ever_taken_back(text: str, stops: list[str]) -> None:
    """What is shown so far begins every possible end of the answer."""
    finder, shown = StopFinder(stops), ""
    for char in text:
        shown += finder.push(char)
        if finder.found is not None:
            break
    end = first_end(text, stops)
    assert text[:end].startswith(shown)
    assert not any(stop in shown for stop in stops)


def test_only_a_beginning_of_a_stop_string_is_held() -> None:
    finder = StopFinder(["</stop>"])
    assert [finder.push(part) for part in ("a<", "b", "c</st", "ar")] == ["a", "<b", "c", "</star"]
    assert finder.flush() == ""


def test_a_pending_beginning_is_shown_at_the_end() -> None:
    finder = StopFinder(["</stop>"])
    assert finder.push("the end </sto") == "the end "
    assert finder.flush() == "</sto"


def test_the_stop_string_stays_when_asked_for() -> None:
    finder = StopFinder(["END"], include_stop=True)
    assert finder.push("x E") + finder.push("ND y") == "x END"
    assert finder.found == "END"
