"""A `Cluster` for gateways without an API server: objects, versions, watches, 410s and failures.

Speaks the seam of `stoker_gateway.watch`, nothing more; tests drive it by `put`, `delete` and
`compact`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from stoker_gateway.errors import WatchGone
from stoker_gateway.watch import Event, Kind, Listing, Scope

Object = dict[str, Any]


def make_deployment(name: str = "chat", namespace: str = "default", **parts: Any) -> Object:
    """An `LLMDeployment`; `spec`, `status` and `metadata` add to the plainest one."""
    metadata = {"name": name, "namespace": namespace, "generation": 1}
    metadata["creationTimestamp"] = "2026-11-21T09:00:00Z"
    spec = {"model": {"source": "pvc://models/chat"}, "resources": {"gpus": 0}}
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": metadata | parts.get("metadata", {}),
        "spec": spec | parts.get("spec", {}),
        "status": parts.get("status", {}),
    }


def make_pod(name: str, deployment: str = "chat", **meta: Any) -> Object:
    """A runtime pod; `ip` and `ready` go into its status."""
    status: Object = {"phase": "Running", "podIP": meta.pop("ip", "")}
    status["conditions"] = [{"type": "Ready", "status": str(bool(meta.pop("ready", False)))}]
    labels = {"app.kubernetes.io/name": "stoker-runtime", "stoker.dev/deployment": deployment}
    metadata = {"name": name, "namespace": "default", "labels": labels} | meta
    return {"metadata": metadata, "status": status}


class FakeCluster:
    """Objects of both kinds, in memory."""

    def __init__(self) -> None:
        self.version = 1
        self.oldest = 0
        self.num_lists = 0
        self.down = False
        self._objects: dict[tuple[Kind, str], Object] = {}
        self._history: list[tuple[int, Kind, str, Object]] = []
        self._changed = asyncio.Condition()
        self._epoch = 0

    async def put(self, kind: Kind, item: Object) -> None:
        """Make or change an object."""
        key = kind, f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        type_ = "MODIFIED" if key in self._objects else "ADDED"
        self._objects[key] = item
        await self._record(kind, type_, item)

    async def delete(self, kind: Kind, item: Object) -> None:
        """Remove an object."""
        del self._objects[kind, f"{item['metadata']['namespace']}/{item['metadata']['name']}"]
        await self._record(kind, "DELETED", item)

    async def forget_quietly(self, kind: Kind, item: Object) -> None:
        """Remove an object so that only a new list can tell."""
        del self._objects[kind, f"{item['metadata']['namespace']}/{item['metadata']['name']}"]
        await self.compact()

    async def compact(self) -> None:
        """Forget history: watches end with 410."""
        self.version += 1
        self.oldest = self.version
        self._history.clear()
        await self._wake()

    async def interrupt(self) -> None:
        """End all watches, without an error."""
        self._epoch += 1
        await self._wake()

    async def _record(self, kind: Kind, type_: str, item: Object) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._history.append((self.version, kind, type_, json.loads(json.dumps(item))))
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def list_all(self, scope: Scope) -> Listing:
        """The seam: all objects."""
        if self.down:
            raise OSError("connection refused")
        self.num_lists += 1
        items = [
            json.dumps(item).encode()
            for (kind, key), item in self._objects.items()
            if kind == scope.kind and scope.namespace in ("", key.partition("/")[0])
        ]
        return Listing(items, str(self.version))

    async def watch(self, scope: Scope, version: str) -> AsyncIterator[Event]:
        """The seam: changes after a version."""
        at, epoch = int(version), self._epoch
        while epoch == self._epoch:
            if self.down:
                raise OSError("connection reset")
            if at < self.oldest:
                raise WatchGone(version)
            for number, kind, type_, item in list(self._history):
                if number > at and kind == scope.kind:
                    at = number
                    yield Event(type_, msgspec.Raw(json.dumps(item).encode()))
            async with self._changed:
                await self._changed.wait()
