"""Following the API server through breaks, 410s and outages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from stoker_gateway import watch
from stoker_gateway.errors import WatchGone
from stoker_gateway.watch import KubernetesCluster, Scope, follow
from support.fake_watch import FakeCluster, make_pod
from support.gateway import until

PODS = Scope("pods")


class Follower:
    """The names it believes to exist."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.num_lists = 0

    def replace(self, scope: Scope, items: list[bytes]) -> None:
        self.num_lists += 1
        self.names = {json.loads(item)["metadata"]["name"] for item in items}

    def apply(self, scope: Scope, item: bytes, gone: bool) -> None:
        name = json.loads(item)["metadata"]["name"]
        self.names = self.names - {name} if gone else self.names | {name}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(watch, "LONGEST_PAUSE_S", 0.02)


@asynccontextmanager
async def following(cluster: FakeCluster) -> AsyncIterator[Follower]:
    follower = Follower()
    task = asyncio.create_task(follow(cluster, PODS, follower))
    try:
        yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_lists_once_and_then_watches() -> None:
    cluster = FakeCluster()
    await cluster.put("pods", make_pod("a"))
    async with following(cluster) as follower:
        await until(lambda: follower.names == {"a"})
        await cluster.put("pods", make_pod("b"))
        await until(lambda: follower.names == {"a", "b"})
        await cluster.delete("pods", make_pod("a"))
        await until(lambda: follower.names == {"b"})
        assert follower.num_lists == 1


async def test_a_watch_that_ends_is_resumed_without_a_new_list() -> None:
    cluster = FakeCluster()
    async with following(cluster) as follower:
        await until(lambda: follower.num_lists == 1)
        await cluster.interrupt()
        await cluster.put("pods", make_pod("a"))
        await until(lambda: follower.names == {"a"})
        assert follower.num_lists == 1


async def test_a_version_that_is_too_old_means_a_new_list() -> None:
    cluster = FakeCluster()
    pod = make_pod("a")
    await cluster.put("pods", pod)
    async with following(cluster) as follower:
        await until(lambda: follower.names == {"a"})
        await cluster.forget_quietly("pods", pod)
        await until(lambda: follower.names == set())
        assert follower.num_lists == 2


async def test_an_outage_is_outlived() -> None:
    cluster = FakeCluster()
    cluster.down = True
    async with following(cluster) as follower:
        await asyncio.sleep(0.05)
        cluster.down = False
        await until(lambda: follower.num_lists == 1)
        cluster.down = True
        await cluster.interrupt()
        await asyncio.sleep(0.05)
        cluster.down = False
        await cluster.put("pods", make_pod("a"))
        await until(lambda: follower.names == {"a"})
        assert follower.num_lists == 1


class ApiServer:
    """The few routes of an API server that the adapter calls, with canned answers."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.lines: list[object] = []
        self.status = 200

    async def __aenter__(self) -> ApiServer:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append({"path": request.path} | dict(request.query))
        if "watch" not in request.query:
            items = [make_pod("a")]
            body = {"metadata": {"resourceVersion": "7"}, "items": items, "kind": "PodList"}
            return web.json_response(body, status=self.status)
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.lines:
            text = json.dumps(piece).encode() + b"\n"
            await response.write(text[:10])
            await asyncio.sleep(0.001)
            await response.write(text[10:])
        return response


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        users = [{"name": "u", "user": {"token": "t"}}]
        clusters = [{"name": "c", "cluster": {"server": running.url}}]
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        document = {"clusters": clusters, "users": users, "contexts": contexts}
        path = f"{tmp_path}/kubeconfig"
        with open(path, "w") as file:
            json.dump(document | {"apiVersion": "v1", "current-context": "x"}, file)
        monkeypatch.setenv("KUBECONFIG", path)
        yield running


async def test_the_adapter_lists_and_watches_runtime_pods_alone(server: ApiServer) -> None:
    cluster = KubernetesCluster()
    listing = await cluster.list_all(PODS)
    assert (len(listing.items), listing.version) == (1, "7")
    server.lines = [
        {"type": "ADDED", "object": make_pod("b", annotations={"x": "y" * 200_000})},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
    ]
    events = [event async for event in cluster.watch(PODS, "7")]
    assert [event.type for event in events] == ["ADDED", "BOOKMARK"]
    listed, watched = server.queries
    assert listed["labelSelector"] == "app.kubernetes.io/name=stoker-runtime,stoker.dev/deployment"
    assert watched["resourceVersion"] == "7"
    assert watched["allowWatchBookmarks"] == "true"
    await cluster.close()


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        (Scope("pods"), "/api/v1/pods"),
        (Scope("pods", "a"), "/api/v1/namespaces/a/pods"),
        (Scope("deployments"), "/apis/stoker.dev/v1alpha1/llmdeployments"),
        (Scope("deployments", "a"), "/apis/stoker.dev/v1alpha1/namespaces/a/llmdeployments"),
    ],
)
async def test_the_adapter_asks_for_what_the_scope_says(
    server: ApiServer, scope: Scope, path: str
) -> None:
    cluster = KubernetesCluster()
    await cluster.list_all(scope)
    assert server.queries[0]["path"] == path
    await cluster.close()


@pytest.mark.parametrize(("status", "error"), [(410, WatchGone), (403, OSError), (500, OSError)])
async def test_the_adapter_maps_errors_once(
    server: ApiServer, status: int, error: type[Exception]
) -> None:
    server.status = status
    cluster = KubernetesCluster()
    with pytest.raises(error):
        await cluster.list_all(PODS)
    await cluster.close()


@pytest.mark.parametrize(("code", "num_lists"), [(410, 2), (500, 1)])
async def test_an_error_within_a_watch_lists_again_only_when_the_version_is_gone(
    server: ApiServer, code: int, num_lists: int
) -> None:
    server.lines = [{"type": "ERROR", "object": {"code": code, "message": "too old"}}]
    cluster, follower = KubernetesCluster(), Follower()
    task = asyncio.create_task(follow(cluster, PODS, follower))
    await until(lambda: sum("watch" in query for query in server.queries) == 2)
    assert follower.num_lists == num_lists
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await cluster.close()


async def test_an_answer_that_no_api_server_gives_is_survived(server: ApiServer) -> None:
    server.lines = ["we are updating our proxy"]
    cluster, follower = KubernetesCluster(), Follower()
    task = asyncio.create_task(follow(cluster, PODS, follower))
    await until(lambda: follower.num_lists == 2 or task.done())
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await cluster.close()


async def test_the_adapter_says_when_nobody_answers(server: ApiServer) -> None:
    cluster = KubernetesCluster()
    await server.__aexit__()
    with pytest.raises(OSError, match="Connect"):
        await cluster.list_all(PODS)
    await cluster.close()
