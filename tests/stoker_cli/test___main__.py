"""The command itself: what it is and what it can do."""

from __future__ import annotations

from importlib.metadata import version

from typer.testing import CliRunner

from stoker_cli.__main__ import app


def test_says_its_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"stoker {version('stoker')}\n")


def test_without_a_command_it_lists_them() -> None:
    result = CliRunner().invoke(app, [])
    assert "Serverless language models on Kubernetes." in result.output
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__name__ in result.output
