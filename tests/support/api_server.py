"""A very small Kubernetes API on a real socket: objects by path, versions, watches.

Enough for the seam's own tests: create, read, replace with optimistic locking, patch, delete, list,
watch. What is really validated, merged and owned is tested against a real API server (e2e).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from stoker_operator.cluster.client import KubeCluster

Manifest = dict[str, Any]
PLURALS = (
    *("llmdeployments", "warmpools", "pods", "services", "persistentvolumeclaims"),
    *("leases", "secrets", "poddisruptionbudgets"),
)


class ApiServer:
    """Objects by path; every request is remembered."""

    def __init__(self) -> None:
        self.objects: dict[str, Manifest] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, str]] = []
        """Status and body to give to the next requests instead of the right answer."""
        self.pause = ""
        """`Retry-After` of those answers."""
        self.hang = False
        self.url = ""
        self._versions = itertools.count(1)
        self._watches: set[asyncio.Queue[tuple[str, str, Manifest]]] = set()

    def put(self, path: str, manifest: Manifest, event: str = "") -> Manifest:
        """Store an object and tell the watches."""
        known = path in self.objects
        metadata = manifest.get("metadata", {}) | {"resourceVersion": str(next(self._versions))}
        self.objects[path] = manifest | {"metadata": metadata}
        for queue in self._watches:
            queue.put_nowait(
                (event or ("MODIFIED" if known else "ADDED"), path, self.objects[path])
            )
        return self.objects[path]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ApiServer]:
        """Listen on loopback."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def client(self, leads: Callable[[], bool] = lambda: True) -> AsyncIterator[KubeCluster]:
        """Our client, talking to this server."""
        cluster = KubeCluster(ApiClient(Configuration(host=self.url)), leads)
        try:
            yield cluster
        finally:
            await cluster.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append((request.method, request.path, dict(request.query), body))
        while self.hang:
            await asyncio.sleep(0.01)
        if self.answers:
            status, reply = self.answers.pop(0)
            headers = {"Retry-After": self.pause} if self.pause else {}
            kind = "application/json"
            return web.Response(status=status, text=reply, content_type=kind, headers=headers)
        if request.query.get("watch"):
            return await self._watch(request)
        return getattr(self, f"_{request.method.lower()}")(request.path, body)

    def _get(self, path: str, _: Any) -> web.Response:
        if path in self.objects:
            return web.json_response(self.objects[path])
        if path.rsplit("/", 1)[1] not in PLURALS:
            return _refuse(404, "not found")
        items = [item for key, item in self.objects.items() if key.startswith(f"{path}/")]
        version = str(next(self._versions))
        _, api, *rest = path.split("/")
        group = rest[0] if api == "api" else "/".join(rest[:2])
        metadata = {"resourceVersion": version}
        return web.json_response({"apiVersion": group, "metadata": metadata, "items": items})

    def _post(self, path: str, body: Manifest) -> web.Response:
        place = f"{path}/{body['metadata']['name']}"
        if place in self.objects:
            return _refuse(409, "already exists")
        return web.json_response(self.put(place, body))

    def _put(self, path: str, body: Manifest) -> web.Response:
        known = self.objects.get(path, {"metadata": {}})["metadata"].get("resourceVersion")
        if known != body["metadata"].get("resourceVersion"):
            return _refuse(409, "the object has been modified")
        return web.json_response(self.put(path, body))

    def _patch(self, path: str, body: Manifest) -> web.Response:
        return web.json_response(self.put(path, self.objects.get(path, {}) | body))

    def _delete(self, path: str, _: Any) -> web.Response:
        if path not in self.objects:
            return _refuse(404, "not found")
        return web.json_response(self.objects.pop(path))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[tuple[str, str, Manifest]] = asyncio.Queue()
        self._watches.add(queue)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                event, path, manifest = await queue.get()
                if path.startswith(request.path):
                    line = json.dumps({"type": event, "object": manifest})
                    await response.write(line.encode() + b"\n")
        finally:
            self._watches.discard(queue)


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message}, status=status)
