"""`stoker quantize` writes a checkpoint that runs, and says what it cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stoker_cli.__main__ import app
from stoker_cli.quantize import rows
from stoker_runtime.engine.evaluation import Quality
from stoker_runtime.engine.trial import Result
from support.checkpoints import write_checkpoint

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat"


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["quantize", *(str(arg) for arg in args)])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A few held-out chats of the committed model."""
    lines = (TINY_CHAT / "heldout.jsonl").read_text().splitlines()
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(lines[::60]) + "\n")
    return path


def test_writes_a_checkpoint_and_shows_both_sides(tmp_path: Path, chats: Path) -> None:
    out = tmp_path / "out"
    code, output = run(TINY_CHAT, out, "--method", "rtn", "--calibration", chats)
    assert code == 0, output
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    assert config["format"] == "pack-quantized"
    assert config["config_groups"]["group_0"]["weights"]["group_size"] == 32
    for word in ("weights", "perplexity", "right answers", "before", "after"):
        assert word in output


def test_says_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    code, output = run(tmp_path / "absent", tmp_path / "out")
    assert code == 1
    assert "CheckpointNotFound" in output
    source = write_checkpoint(tmp_path / "source")
    code, output = run(source, source)
    assert code == 1
    assert "is not empty" in output


def test_a_text_file_that_is_absent_is_named(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    code, output = run(source, tmp_path / "out", "--calibration", tmp_path / "no.txt")
    assert code == 1
    assert "no.txt" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "value"), [("--bits", 3), ("--group-size", 7)])
def test_refuses_what_the_format_does_not_have(option: str, value: int) -> None:
    code, _ = run(TINY_CHAT, "out", option, value)
    assert code == 2


def test_changes_are_relative_but_for_shares() -> None:
    before = Result(Quality(2.0, 0.90), 8_000_000)
    after = Result(Quality(2.1, 0.88), 2_000_000)
    assert rows(before, after) == [
        ("weights", "8.0 MB", "2.0 MB", "-75.0%"),
        ("perplexity", "2.000", "2.100", "+5.0%"),
        ("right answers", "90.0%", "88.0%", "-2.0 points"),
    ]


def test_texts_without_answers_have_no_accuracy() -> None:
    result = Result(Quality(2.0, None), 1)
    assert [row[0] for row in rows(result, result)] == ["weights", "perplexity"]
