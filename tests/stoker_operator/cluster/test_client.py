"""The seam: verbs, patch types, refusals, watches, and no write without the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from stoker_operator.cluster import client
from stoker_operator.cluster.client import BUSY, KubeCluster, Request
from stoker_operator.errors import ClusterError, Conflict, LeaseLost, NotFound, Rejected
from support.api_server import ApiServer

POD = {"kind": "Pod", "metadata": {"namespace": "ns", "name": "a", "uid": "u"}}
PATH = "/api/v1/namespaces/ns/pods/a"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A small API server."""
    async with ApiServer().serving() as server:
        yield server


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[KubeCluster]:
    """Our client."""
    async with server.client() as cluster:
        yield cluster


def _count(kind: str, verb: str) -> float:
    labels = {"kind": kind, "verb": verb}
    return REGISTRY.get_sample_value("stoker_operator_writes_total", labels) or 0.0


async def test_applies_as_field_manager_stoker(server: ApiServer, cluster: KubeCluster) -> None:
    before = _count("Pod", "apply")
    made = await cluster.apply(POD)
    assert made["metadata"]["resourceVersion"]
    method, path, query, body = server.requests[-1]
    assert (method, path, body) == ("PATCH", PATH, POD)
    assert query == {"fieldManager": "stoker", "force": "true"}
    await cluster.apply_status(POD)
    assert server.requests[-1][1] == f"{PATH}/status"
    assert _count("Pod", "apply") == before + 2


async def test_annotates_and_deletes_the_very_object(
    server: ApiServer, cluster: KubeCluster
) -> None:
    server.put(PATH, POD)
    await cluster.annotate("Pod", POD["metadata"], {"x": "1", "y": None})  # type: ignore[arg-type]
    body = server.requests[-1][3]
    assert body["metadata"]["uid"] == "u"
    assert body["metadata"]["annotations"] == {"x": "1", "y": None}
    await cluster.delete("Pod", POD["metadata"])  # type: ignore[arg-type]
    assert server.requests[-1][3] == {"preconditions": {"uid": "u"}}


async def test_owners_are_added_to_those_that_are_there(
    server: ApiServer, cluster: KubeCluster
) -> None:
    server.put(PATH, POD)
    metadata = {"namespace": "ns", "name": "a", "ownerReferences": [{"uid": "u2"}]}
    await cluster.share({"kind": "Pod", "metadata": metadata})
    method, path, _, body = server.requests[-1]
    assert (method, path) == ("PATCH", PATH)
    assert body["metadata"]["ownerReferences"] == [{"uid": "u2"}]


async def test_changes_and_deletes_the_very_version_where_one_is_named(
    server: ApiServer, cluster: KubeCluster
) -> None:
    metadata = {"namespace": "ns", "name": "a", "uid": "u", "resourceVersion": "7"}
    server.put(PATH, POD)
    await cluster.change({"kind": "Pod", "metadata": metadata | {"labels": {"a": None}}})
    method, path, query, body = server.requests[-1]
    assert (method, path, query) == ("PATCH", PATH, {"fieldManager": "stoker"})
    assert body["metadata"] == metadata | {"labels": {"a": None}}
    await cluster.delete("Pod", metadata, grace_s=5)
    guards = {"uid": "u", "resourceVersion": "7"}
    assert server.requests[-1][3] == {"preconditions": guards, "gracePeriodSeconds": 5}


async def test_creates_under_the_folder_of_its_kind(
    server: ApiServer, cluster: KubeCluster
) -> None:
    await cluster.create(POD)
    assert server.requests[-1][:2] == ("POST", "/api/v1/namespaces/ns/pods")
    with pytest.raises(Conflict, match="already exists"):
        await cluster.create(POD)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (410, Conflict),
        (403, Rejected),
        (422, Rejected),
        (500, ClusterError),
        (429, ClusterError),
    ],
)
async def test_refusals_are_told_apart(
    server: ApiServer, cluster: KubeCluster, status: int, kind: type[ClusterError]
) -> None:
    server.answers.append((status, '{"message": "because"}'))
    with pytest.raises(ClusterError, match=f"{status} because") as refusal:
        await cluster.apply(POD)
    assert type(refusal.value) is kind
    assert refusal.value.status == status


def _each_verb(cluster: KubeCluster) -> dict[str, Callable[[], Awaitable[Any]]]:
    meta: Any = POD["metadata"]
    return {
        "list": lambda: cluster.list("Pod", "ns"),
        "read": lambda: cluster.read("Pod", "ns", "a"),
        "watch": lambda: anext(cluster.watch("Pod", "ns")),
        "apply": lambda: cluster.apply(POD),
        "status": lambda: cluster.apply_status(POD),
        "annotate": lambda: cluster.annotate("Pod", meta, {"x": "1"}),
        "change": lambda: cluster.change(POD),
        "share": lambda: cluster.share(POD),
        "create": lambda: cluster.create(POD | {"metadata": meta | {"name": "b"}}),
        "delete": lambda: cluster.delete("Pod", meta),
    }


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is slept, in seconds, in place of sleeping."""
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(client.asyncio, "sleep", note)
    return slept


@pytest.mark.parametrize("verb", sorted(_each_verb(cast(KubeCluster, None))))
@pytest.mark.parametrize("status", BUSY)
async def test_every_verb_waits_for_as_long_as_the_server_asks(
    server: ApiServer, cluster: KubeCluster, pauses: list[float], verb: str, status: int
) -> None:
    server.put(PATH, POD)
    server.answers, server.pause = [(status, '{"message": "too many"}')] * 2, "3"
    await _each_verb(cluster)[verb]()
    assert pauses == [3.0, 3.0]
    asked = [request[:2] for request in server.requests[:3]]
    assert asked == [asked[0]] * 3, "the same thing, three times"


async def test_a_server_that_is_busy_for_too_long_is_given_up_and_says_when_to_come_back(
    server: ApiServer, cluster: KubeCluster, pauses: list[float]
) -> None:
    server.answers, server.pause = [(429, "{}")] * 20, "4"
    with pytest.raises(ClusterError, match="429") as refusal:
        await cluster.apply(POD)
    assert pauses == [4.0, 4.0], "no longer than an answer may take"
    assert refusal.value.retry_after_s == 4.0


@pytest.mark.parametrize(
    ("status", "pause"),
    [(429, ""), (429, "0"), (429, "Sun, 22 Nov 2026 00:00:00 GMT"), (500, "1"), (409, "1")],
)
async def test_only_what_was_not_done_is_repeated_and_only_if_the_server_says_when(
    server: ApiServer, cluster: KubeCluster, pauses: list[float], status: int, pause: str
) -> None:
    server.answers, server.pause = [(status, "{}")], pause
    with pytest.raises(ClusterError):
        await cluster.create(POD)
    assert pauses == []
    assert len(server.requests) == 1


async def test_a_write_that_waited_is_not_sent_once_another_process_leads(
    server: ApiServer, pauses: list[float]
) -> None:
    server.answers, server.pause = [(429, "{}")], "1"
    async with server.client(leads=lambda: not pauses) as cluster:
        with pytest.raises(LeaseLost):
            await cluster.apply(POD)
        await cluster.list("Pod")
    assert [request[0] for request in server.requests] == ["PATCH", "GET"]


async def test_an_answer_that_is_not_json_is_an_error_of_the_cluster(
    server: ApiServer, cluster: KubeCluster
) -> None:
    server.answers += [(502, "<html>"), (200, "<html>")]
    with pytest.raises(ClusterError, match="502 <html>"):
        await cluster.read("Pod", "ns", "a")
    with pytest.raises(ClusterError, match="JSONDecodeError"):
        await cluster.read("Pod", "ns", "a")


async def test_a_server_that_hangs_or_is_gone_is_an_error_of_the_cluster(
    server: ApiServer, cluster: KubeCluster
) -> None:
    server.hang = True
    with pytest.raises(ClusterError, match="Timeout"):
        await cluster.call(Request("GET", PATH, timeout_s=0.05))
    server.hang = False
    lost = ApiServer()
    lost.url = "http://127.0.0.1:1"
    async with lost.client() as nobody:
        with pytest.raises(ClusterError, match="Connect"):
            await nobody.list("Pod")


async def test_writes_nothing_without_the_lease(server: ApiServer) -> None:
    async with server.client(leads=lambda: False) as standby:
        writes: list[Any] = [
            standby.apply(POD),
            standby.apply_status(POD),
            standby.annotate("Pod", POD["metadata"], {}),  # type: ignore[arg-type]
            standby.delete("Pod", POD["metadata"]),  # type: ignore[arg-type]
            standby.create(POD),
        ]
        for write in writes:
            with pytest.raises(LeaseLost):
                await write
        assert await standby.list("Pod", "ns")
    assert [request[0] for request in server.requests] == ["GET"]


async def test_a_watch_begins_with_what_there_is_and_goes_on_with_changes(
    server: ApiServer, cluster: KubeCluster
) -> None:
    server.put(PATH, POD)
    events = cluster.watch("Pod", "ns", (("labelSelector", "a=b"),))
    kind, listed = await anext(events)
    assert (kind, len(listed["items"])) == ("LISTED", 1)
    following = _next_of(events)
    await _until_watched(server)
    server.put(f"{PATH}2", POD)
    assert (await following)[0] == "ADDED"
    assert server.requests[-1][2]["labelSelector"] == "a=b"
    server.put(PATH, POD, "ERROR")
    assert [event async for event in events] == []


def _next_of(events: Any) -> Any:
    import asyncio

    return asyncio.ensure_future(anext(events))


async def _until_watched(server: ApiServer) -> None:
    import asyncio

    while not server._watches:
        await asyncio.sleep(0.005)
