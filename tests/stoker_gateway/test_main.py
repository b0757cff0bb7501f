"""The command line's edge."""

from __future__ import annotations

import pytest

from stoker_gateway.__main__ import main


def test_bad_settings_end_the_start_with_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STOKER_WORKERS", "none")
    monkeypatch.setenv("STOKER_PORT", "70000")
    assert main() == 2
    said = capsys.readouterr().err
    assert "STOKER_WORKERS: " in said
    assert "STOKER_PORT: Input should be less than or equal to 65535, was '70000'" in said
