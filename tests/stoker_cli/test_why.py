"""`stoker why`: finds what a name means, in a cluster that answers over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from stoker_cli.__main__ import app

OBJECTS: dict[str, Any] = {
    "llmdeployments/chat": {"kind": "LLMDeployment", "metadata": {"name": "chat"}},
    "warmpools/shared": {"kind": "WarmPool", "metadata": {"name": "shared"}},
}


class Handler(BaseHTTPRequestHandler):
    """The API server's routes of our two kinds, in the namespace `team`."""

    def do_GET(self) -> None:
        prefix, _, place = self.path.partition("/namespaces/team/")
        found = OBJECTS.get(place) if prefix == "/apis/stoker.dev/v1alpha1" else None
        self.send_response(500 if "broken" in place else 200 if found else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found or {}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kubeconfig that leads to the handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    context = {"cluster": "c", "user": "u", "namespace": "team"}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config")
    )
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def ask(name: str) -> Result:
    return CliRunner().invoke(app, ["why", name])


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["chat", "shared"])
def test_a_name_means_a_deployment_or_else_a_pool(name: str) -> None:
    result = ask(name)
    assert result.exit_code == 0, result.output
    assert f"{name} is new" in result.output


@pytest.mark.usefixtures("cluster")
def test_a_name_that_is_neither_is_refused() -> None:
    result = ask("nobody")
    assert result.exit_code == 2
    assert "no LLMDeployment or WarmPool named 'nobody'" in " ".join(result.output.split())


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_fails_is_not_an_absent_object() -> None:
    assert "cannot read broken" in ask("broken").output
