"""Keys on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker_api.tokens import derive_token
from stoker_gateway import keys
from stoker_gateway.keys import InternalKey, KeyFolder


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOOK_EVERY_S", -1.0)


def test_without_a_folder_no_key_is_asked_for() -> None:
    assert KeyFolder(None).accept(None)


def test_every_file_is_a_key_and_changes_are_seen(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    assert not folder.accept(b"Bearer one")
    (tmp_path / "api-key").write_text("one\n")
    assert folder.accept(b"Bearer one")
    (tmp_path / "second").write_text("two")
    assert folder.accept(b"Bearer two")
    (tmp_path / "api-key").unlink()
    assert not folder.accept(b"Bearer one")


def test_hidden_files_and_empty_ones_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text("one")
    (tmp_path / "empty").write_text("\n")
    folder = KeyFolder(tmp_path)
    assert not folder.accept(b"Bearer one")
    assert not folder.accept(b"Bearer ")


def test_a_missing_folder_lets_nobody_in(tmp_path: Path) -> None:
    assert not KeyFolder(tmp_path / "absent").accept(b"Bearer one")


def test_the_last_keys_stay_when_the_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/one").write_text("one")
    folder = KeyFolder(tmp_path / "keys")
    assert folder.accept(b"Bearer one")
    (tmp_path / "keys").rename(tmp_path / "moved")
    assert folder.accept(b"Bearer one")


def test_internal_tokens_are_derived_per_purpose(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"secret\n")
    assert InternalKey(tmp_path / "key").token("demand") == derive_token(b"secret", "demand")
    assert InternalKey(None).token("demand") == ""


def test_an_empty_internal_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\n")
    with pytest.raises(ValueError, match="is empty"):
        InternalKey(tmp_path / "key")
