"""Looking everything up: at the start until it succeeds, later for what watches missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stoker_operator.build.service import build_headless_service
from stoker_operator.cluster import resync
from stoker_operator.cluster.resync import Resync
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.handlers.children import contains
from support.api_server import ApiServer
from support.builders import make_llm

POD = {
    "metadata": {
        "namespace": "ns",
        "name": "chat-0",
        "uid": "u",
        "labels": {"stoker.dev/deployment": "chat"},
    },
    "spec": {},
}
PATH = "/api/v1/pods/chat-0"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A small API server."""
    async with ApiServer().serving() as server:
        yield server


async def test_the_first_look_waits_for_the_crds_and_the_server(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "RETRY_S", 0.01)
    server.answers += [(404, "{}")] * 5 + [(500, "{}")] * 5
    server.put(PATH, POD)
    snapshot, changed = Snapshot(), list[tuple[str, str]]()
    async with server.client() as cluster:
        looking = Resync(cluster, snapshot, ("",), lambda *what: changed.append(what))
        await looking.first()
    assert snapshot.synced
    assert changed == [("Pod", "ns/chat-0")]
    assert snapshot.pods("ns/chat")[0]["kind"] == "Pod"
    selectors = {path: query for _, path, query, _ in server.requests}
    assert selectors["/api/v1/pods"] == {"labelSelector": "app.kubernetes.io/name=stoker-runtime"}


async def test_what_vanished_unseen_is_noticed_later(server: ApiServer) -> None:
    server.put(PATH, POD)
    snapshot, changed = Snapshot(), list[tuple[str, str]]()
    async with server.client() as cluster:
        looking = Resync(cluster, snapshot, ("",), lambda *what: changed.append(what))
        await looking.first()
        del server.objects[PATH]
        task = asyncio.create_task(looking.forever(0.01))
        server.answers.append((500, "{}"))
        while len(changed) < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
    assert snapshot.pods("ns/chat") == []
    versions = [query.get("resourceVersion") for _, _, query, _ in server.requests]
    assert versions[:6] == [None] * 6, "the first list is of its moment"
    assert set(versions[6:]) == {"0"}, "the others are whatever the server has in memory"


async def test_a_list_that_is_behind_takes_nothing_back(server: ApiServer) -> None:
    """The one that serves it may be behind the one whose watch we follow."""
    behind, snapshot = server.put(PATH, POD), Snapshot()
    known = {"kind": "Pod"} | behind | {"spec": {"nodeName": "n"}}
    newer = {"kind": "Pod"} | POD | {"metadata": POD["metadata"] | {"name": "chat-1", "uid": "v"}}
    for manifest in (known, newer):
        metadata = manifest["metadata"] | {"resourceVersion": "1000"}
        snapshot.upsert(manifest | {"metadata": metadata}, "Pod", 0.0)
    changed: list[tuple[str, str]] = []
    async with server.client() as cluster:
        await Resync(cluster, snapshot, ("",), lambda *what: changed.append(what)).once("0")
    assert changed == []
    assert [pod["spec"] for pod in snapshot.pods("ns/chat")] == [{"nodeName": "n"}, {}]


async def test_only_the_watched_namespaces_are_listed(server: ApiServer) -> None:
    async with server.client() as cluster:
        await Resync(cluster, Snapshot(), ("a", "b"), lambda *_: None).once()
    assert all("/namespaces/" in path for _, path, _, _ in server.requests)
    assert len(server.requests) == 12


async def test_what_is_listed_looks_as_what_was_written(server: ApiServer) -> None:
    """Items of a list lack kind and version: without them a restart would mend what is whole."""
    wanted = build_headless_service(make_llm())
    listed = {key: value for key, value in wanted.items() if key not in ("kind", "apiVersion")}
    listed["metadata"] |= {"uid": "u"}
    server.put("/api/v1/services/chat-pods", listed)
    snapshot = Snapshot()
    async with server.client() as cluster:
        await Resync(cluster, snapshot, ("",), lambda *_: None).once()
    assert contains(snapshot.get("Service", "ns/chat-pods"), wanted)
