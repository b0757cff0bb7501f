"""Prose and code of prompts."""

import ast
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.words import WORDS, write_code, write_prose


@given(st.integers(1, 500), st.integers())
def test_prose_has_as_many_words_as_asked(num_words: int, seed: int) -> None:
    assert len(write_prose(Random(seed), num_words).split()) == num_words


@given(st.integers(1, 500), st.integers())
def test_code_has_a_line_for_every_four_words(num_words: int, seed: int) -> None:
    lines = write_code(Random(seed), num_words).splitlines()
    assert len(lines) == -(-num_words // 4)
    assert lines[0].startswith("def ")


def test_code_reads_like_functions() -> None:
    assert len(ast.parse(write_code(Random(1), 4 * 18)).body) == 2


def test_words_are_distinct_and_enough_to_tell_prompts_apart() -> None:
    assert len(WORDS) == len(set(WORDS)) > 256
