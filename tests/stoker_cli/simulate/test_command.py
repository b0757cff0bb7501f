"""`stoker simulate`: a table of what was and of what other settings would change."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stoker_cli.__main__ import app


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = [f"{at},300,20" for at in (5, 6, 7, 400, 401, 2000)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return path


def test_the_table_compares_settings_and_the_page_is_written(trace: Path) -> None:
    page = trace.parent / "out.html"
    command = ["simulate", str(trace), "--html", str(page)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    for name in ("as given", "idleTimeout 75s", "minReplicas 1", "cold starts"):
        assert name in result.output
    assert "<svg" in page.read_text()


def test_one_run_alone_without_a_calibrated_speed(trace: Path) -> None:
    command = ["simulate", str(trace), "--no-compare", "--no-calibrated"]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "minReplicas" not in result.output


def test_a_missing_trace_is_refused_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
