"""`stoker fit`: the sums on the terminal, and an exit status for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stoker_cli.__main__ import app

CONFIG = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_model_that_fits(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(checkpoint), "--memory", "80"])
    assert result.exit_code == 0, result.output
    assert "tokens of cache" in result.output


def test_one_that_does_not_shows_what_would(checkpoint: Path) -> None:
    options = ["--memory", "16", "--max-model-len", "8192"]
    result = CliRunner().invoke(app, ["fit", str(checkpoint / "config.json"), *options])
    assert result.exit_code == 1
    assert "too much" in result.output
    assert "would fit with resources.gpus: 2" in result.output


@pytest.mark.parametrize(
    ("content", "options"),
    [("{", []), ("[]", []), ("{}", []), (json.dumps(CONFIG), ["--quantization", "Int3"])],
    ids=["broken", "a list", "empty", "unknown format"],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: str, options: list[str]) -> None:
    (tmp_path / "config.json").write_text(content)
    assert CliRunner().invoke(app, ["fit", str(tmp_path), *options]).exit_code == 2
