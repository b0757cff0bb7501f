"""Asking the operator what it remembers: through the API server, or at an address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from kubernetes import config

from stoker_cli.recall import fetch_arrivals
from support.small_cluster import SmallCluster, small_cluster

PODS = "/api/v1/namespaces/stoker/pods"


def make_pod(name: str, phase: str = "Running") -> dict[str, Any]:
    container = {"name": "operator", "ports": [{"name": "metrics", "containerPort": 9191}]}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container]},
        "status": {"phase": phase},
    }


def told(*minutes: list[int]) -> dict[str, Any]:
    return {"columns": ["minute"], "minutes": list(minutes)}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallCluster]:
    """Two operators, of which one has just started, and one that has ended."""
    items = [make_pod("old"), make_pod("young"), make_pod("gone", "Succeeded")]
    documents = {
        PODS: {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items},
        f"{PODS}/old:9191/proxy/arrivals/team/chat": told([1], [2]),
        f"{PODS}/young:9191/proxy/arrivals/team/chat": told([2]),
    }
    with small_cluster(documents, tmp_path, monkeypatch) as server:
        config.load_kube_config(str(tmp_path / "kubeconfig"))
        yield server


def test_the_operator_that_remembers_most_is_believed(cluster: SmallCluster) -> None:
    assert cluster.documents
    assert fetch_arrivals("team/chat", "stoker") == told([1], [2])


def test_an_operator_that_may_not_be_asked_is_told_with_a_way_out(cluster: SmallCluster) -> None:
    cluster.documents[f"{PODS}/old:9191/proxy/arrivals/team/chat"] = 403
    with pytest.raises(typer.BadParameter, match=r"403 .* give `--operator http://localhost:9090`"):
        fetch_arrivals("team/chat", "stoker")


def test_no_operator_at_all_is_told(cluster: SmallCluster) -> None:
    cluster.documents[PODS]["items"].clear()
    with pytest.raises(typer.BadParameter, match="no operator runs in namespace 'stoker'"):
        fetch_arrivals("team/chat", "stoker")


def test_an_address_is_asked_itself(cluster: SmallCluster) -> None:
    cluster.documents["/arrivals/team/chat"] = told([7])
    assert fetch_arrivals("team/chat", "stoker", cluster.url + "/") == told([7])


@pytest.mark.parametrize(
    ("address", "words"),
    [("file:///etc", "must be a http"), ("http://127.0.0.1:1", "does not answer")],
)
def test_an_address_that_cannot_be_asked_is_refused(address: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        fetch_arrivals("team/chat", "stoker", address)
