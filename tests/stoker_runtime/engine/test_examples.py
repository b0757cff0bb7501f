"""Calibration and evaluation texts: which files are read, and where grading begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker_runtime.engine.examples import PROMPTS, ExampleReader
from stoker_runtime.errors import CheckpointNotFound, ConfigInvalid
from support.checkpoints import write_checkpoint

TINY_CHAT = Path(__file__).parents[3] / "models/tiny-chat"


@pytest.fixture
def reader() -> ExampleReader:
    return ExampleReader(TINY_CHAT, 64)


def test_chats_are_graded_by_their_answers(tmp_path: Path, reader: ExampleReader) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "1+1"}], "answer": "so 2."}\n')
    (example,) = reader.read(path)
    assert reader.decode(example.answer_ids) == example.answer == "so 2."
    assert example.first_graded == len(example.prompt_ids)
    assert reader.decode(example.prompt_ids) == "1+1"


def test_texts_are_graded_from_their_second_token_on(tmp_path: Path, reader: ExampleReader) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One paragraph\nof two lines.\n\n\nAnother one.\n")
    examples = reader.read(path)
    assert [reader.decode(one.token_ids) for one in examples] == [
        "One paragraph\nof two lines.",
        "Another one.",
    ]
    assert {one.first_graded for one in examples} == {1}


def test_long_examples_are_cut(reader: ExampleReader) -> None:
    assert len(reader.text("word " * 100).token_ids) == 64
    chat = reader.chat([{"role": "user", "content": "1"}], "2 " * 100)
    assert len(chat.token_ids) == 64
    assert len(reader.chat([{"role": "user", "content": "1 " * 99}], "2").token_ids) == 64


def test_without_a_template_the_last_message_is_the_prompt(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    config = (folder / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(config.replace('"chat_template"', '"other"'))
    example = ExampleReader(folder, 64).chat([{"role": "user", "content": "hello"}], " world")
    assert ExampleReader(folder, 64).decode(example.token_ids) == "hello world"


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"messages": 3}', '{"messages": [{}]}'])
def test_a_line_that_makes_no_sense_is_named(
    tmp_path: Path, reader: ExampleReader, line: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "fine and good"}}\n{line}\n')
    with pytest.raises(ConfigInvalid, match=r"a\.jsonl:2 must be"):
        reader.read(path)


def test_files_without_examples_are_refused(tmp_path: Path, reader: ExampleReader) -> None:
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(ConfigInvalid, match="holds no examples"):
        reader.read(tmp_path / "a.txt")
    with pytest.raises(CheckpointNotFound, match=r"b\.txt does not exist"):
        reader.read(tmp_path / "b.txt")


def test_the_runtimes_own_prompts_are_all_different() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) > 50
