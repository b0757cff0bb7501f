"""Texts are read before they are wanted, given away once, and never when their files changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker_runtime.errors import CheckpointNotFound
from stoker_runtime.server import shelf as module
from stoker_runtime.server.shelf import Shelf
from stoker_runtime.server.texts import Texts, load_texts
from support.checkpoints import write_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, 320)
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were read, in order."""
    folders: list[Path] = []

    def load(folder: Path) -> Texts:
        folders.append(folder)
        return load_texts(folder)

    monkeypatch.setattr(module, "load_texts", load)
    return folders


def test_what_is_filled_is_not_read_again(folder: Path, read: list[Path]) -> None:
    shelf = Shelf([folder])
    shelf.fill()
    assert read == [folder]
    texts = shelf.take(folder)
    assert read == [folder]
    assert texts.tokenizer.decode(texts.tokenizer.encode("hello")) == "hello"


def test_texts_that_served_one_model_serve_no_other(folder: Path, read: list[Path]) -> None:
    shelf = Shelf([folder])
    shelf.fill()
    first = shelf.take(folder)
    second = shelf.take(folder)
    assert read == [folder, folder]
    shelf.fill()
    third = shelf.take(folder)
    assert read == [folder, folder, folder]
    assert len({id(texts.tokenizer) for texts in (first, second, third)}) == 3


def test_files_that_changed_are_read_again(folder: Path, read: list[Path]) -> None:
    shelf = Shelf([folder])
    shelf.fill()
    (folder / "chat_template.jinja").write_text("the new template")
    template = shelf.take(folder).template
    assert read == [folder, folder]
    assert template is not None
    assert template.render([{"role": "user", "content": "hi"}]) == "the new template"


def test_folders_that_are_not_preloaded_are_read_when_they_are_taken(
    folder: Path, read: list[Path]
) -> None:
    shelf = Shelf()
    shelf.fill()
    assert read == []
    shelf.take(folder)
    assert read == [folder]


def test_a_folder_that_cannot_be_read_hinders_no_other_and_is_named_when_taken(
    folder: Path, read: list[Path]
) -> None:
    gone = folder / "gone"
    shelf = Shelf([gone, folder])
    shelf.fill()
    shelf.take(folder)
    assert read == [folder]
    with pytest.raises(CheckpointNotFound, match="gone"):
        shelf.take(gone)
