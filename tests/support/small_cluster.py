"""An API server that only answers GETs with given JSON, and the kubeconfig that leads to it.

For commands that read a few objects with the official client; real API servers are for the stories.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

NAMESPACE = "team"
OURS = f"/apis/stoker.dev/v1alpha1/namespaces/{NAMESPACE}"


class SmallCluster(ThreadingHTTPServer):
    """Documents by path; a status instead of a document is answered alone, an event waited for."""

    def __init__(self, documents: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents = documents

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SmallCluster

    def do_GET(self) -> None:
        """Answer with what was given for the path, queries left aside."""
        found = self.server.documents.get(self.path.partition("?")[0], 404)
        if isinstance(found, threading.Event):
            found.wait()
            return
        self.send_response(found if isinstance(found, int) else 200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({} if isinstance(found, int) else found).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def small_cluster(
    documents: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SmallCluster]:
    """Serve the documents, and make it the cluster of the kubeconfig."""
    server = SmallCluster(documents)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    context = {"cluster": "c", "user": "u", "namespace": NAMESPACE}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(place, str(folder / "kubeconfig"))
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
