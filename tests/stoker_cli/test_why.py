"""`stoker why`: finds what a name means, in a cluster that answers over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stoker_cli import deployment
from stoker_cli.__main__ import app
from support.small_cluster import OURS, small_cluster

HANGS = Event()
DOCUMENTS: dict[str, Any] = {
    f"{OURS}/llmdeployments/chat": {"kind": "LLMDeployment", "metadata": {"name": "chat"}},
    f"{OURS}/warmpools/shared": {"kind": "WarmPool", "metadata": {"name": "shared"}},
    f"{OURS}/llmdeployments/broken": 500,
    f"{OURS}/llmdeployments/hangs": HANGS,
}


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with small_cluster(DOCUMENTS, tmp_path, monkeypatch):
        yield


def ask(name: str) -> Result:
    return CliRunner().invoke(app, ["why", name])


@pytest.mark.parametrize("name", ["chat", "shared"])
def test_a_name_means_a_deployment_or_else_a_pool(name: str) -> None:
    result = ask(name)
    assert result.exit_code == 0, result.output
    assert f"{name} is new" in result.output


@pytest.mark.parametrize(("name", "waits_for"), [("chat", "nothing"), ("shared", None)])
def test_programs_get_the_status_and_what_is_waited_for(name: str, waits_for: str | None) -> None:
    told = json.loads(CliRunner().invoke(app, ["why", name, "-o", "json"]).output)
    assert (told["name"], told.get("waitsFor"), told["status"]) == (name, waits_for, {})


def test_a_name_that_is_neither_is_refused() -> None:
    result = ask("nobody")
    assert result.exit_code == 2
    assert "no LLMDeployment or WarmPool named 'nobody'" in " ".join(result.output.split())


def test_a_cluster_that_fails_is_not_an_absent_object() -> None:
    assert "cannot read broken" in ask("broken").output


def test_a_cluster_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "TIMEOUT_S", 0.05)
    result = ask("hangs")
    HANGS.set()
    assert result.exit_code == 2
    assert "the cluster does not answer" in " ".join(result.output.split())
