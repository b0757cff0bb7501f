"""Follows deployments and runtime pods in the API server: list, watch, resume, list again on 410.

Knows the Kubernetes client, resource versions and back-off; does not know what an object means. The
`Cluster` protocol is the seam: `KubernetesCluster` is the real one. `backends` consumes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import aiohttp
import msgspec
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from stoker_api import names
from stoker_gateway.errors import WatchGone

log = logging.getLogger(__name__)

T = TypeVar("T")
Kind = Literal["deployments", "pods"]
WATCH_S = 240
"""The server ends a watch after this; it is resumed where it ended."""
SILENCE_S = 90
"""Bookmarks come every minute: a longer silence is a dead connection."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
_PODS = f"{names.LABEL_NAME}={names.RUNTIME_NAME},{names.LABEL_DEPLOYMENT}"
"""Pods of deployments: a standby that is adopted appears, one that is returned vanishes."""


class Meta(msgspec.Struct, rename="camel"):
    """What a gateway reads of any object's metadata."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class Item(msgspec.Struct):
    """An object of which only the metadata is parsed."""

    metadata: Meta


class Event(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _Listing(msgspec.Struct):
    metadata: Meta
    items: list[msgspec.Raw]


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What one watch covers; an empty namespace means all."""

    kind: Kind
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a scope, and the resource version to watch from."""

    items: list[bytes]
    version: str


class Cluster(Protocol):
    """The API server, as far as a gateway needs it."""

    async def list_all(self, scope: Scope) -> Listing:
        """All objects now. Raises `OSError`."""

    def watch(self, scope: Scope, version: str) -> AsyncIterator[Event]:
        """Changes after a version. Raises `WatchGone`, `OSError`; ends now and then."""


class Follower(Protocol):
    """Who wants to know."""

    def replace(self, scope: Scope, items: list[bytes]) -> None:
        """All that there is; whatever else was known of the scope is gone."""

    def apply(self, scope: Scope, item: bytes, gone: bool) -> None:
        """One object is new, changed or gone."""


async def follow(cluster: Cluster, scope: Scope, follower: Follower) -> None:
    """Keep a follower up to date until cancelled."""
    version = ""
    pause_s = FIRST_PAUSE_S
    while True:
        began_at = time.monotonic()
        try:
            if not version:
                listing = await cluster.list_all(scope)
                version = listing.version
                follower.replace(scope, listing.items)
            async for event in cluster.watch(scope, version):
                version = _pass_on(event, scope, follower)
        except WatchGone:
            log.info("watch of %s: the version is too old, listing again", scope.kind)
            version = ""
        except OSError as error:
            log.warning("watch of %s: %s", scope.kind, error)
        except msgspec.MsgspecError as error:  # of something that stands before the API server
            log.warning("watch of %s: not what an API server says: %s", scope.kind, error)
            version = ""
        lively = time.monotonic() - began_at > LONGEST_PAUSE_S
        pause_s = FIRST_PAUSE_S if lively else min(pause_s * 2, LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)


def _pass_on(event: Event, scope: Scope, follower: Follower) -> str:
    item = bytes(event.object)
    if event.type == "ERROR":
        status = msgspec.json.decode(item, type=_Status)
        if status.code == 410:
            raise WatchGone(status.message)
        raise OSError(f"{status.code} {status.message}")
    if event.type != "BOOKMARK":
        follower.apply(scope, item, event.type == "DELETED")
    return msgspec.json.decode(item, type=Item).metadata.resource_version


class KubernetesCluster:
    """The real API server."""

    def __init__(self) -> None:
        self._client: client.ApiClient | None = None

    async def list_all(self, scope: Scope) -> Listing:
        """All objects now."""
        timeout = aiohttp.ClientTimeout(total=60)
        response = await self._get(scope, [], timeout)
        listing = msgspec.json.decode(await _or_os_error(response.read()), type=_Listing)
        return Listing([bytes(item) for item in listing.items], listing.metadata.resource_version)

    async def watch(self, scope: Scope, version: str) -> AsyncIterator[Event]:
        """Changes after a version."""
        query = [("watch", "true"), ("allowWatchBookmarks", "true")]
        query += [("resourceVersion", version), ("timeoutSeconds", str(WATCH_S))]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
        response = await self._get(scope, query, timeout)
        rest = b""
        try:
            while chunk := await _or_os_error(response.content.readany()):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield msgspec.json.decode(line, type=Event)
        finally:
            response.close()

    async def close(self) -> None:
        """End all connections."""
        if self._client:
            await self._client.close()  # type: ignore[no-untyped-call]

    async def _get(
        self, scope: Scope, query: list[tuple[str, str]], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            self._client = client.ApiClient(await _load_config())
        if scope.kind == "pods":
            query = [*query, ("labelSelector", _PODS)]
        request = await self._client.param_serialize(
            "GET", _path(scope), query_params=query, auth_settings=["BearerToken"]
        )
        call = self._client.call_api(*request, _request_timeout=timeout)
        response: aiohttp.ClientResponse = (await _or_os_error(call)).response
        if response.status == 410:
            response.close()
            raise WatchGone(scope.kind)
        if response.status != 200:
            text = (await _or_os_error(response.read()))[:300].decode(errors="replace")
            raise OSError(f"{response.status} {text}")
        return response


async def _load_config() -> client.Configuration:
    configuration = client.Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
        config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
        )
    return configuration


def _path(scope: Scope) -> str:
    if scope.kind == "pods":
        prefix, plural = "/api/v1", "pods"
    else:
        prefix, plural = f"/apis/{names.API_VERSION}", "llmdeployments"
    inside = f"/namespaces/{scope.namespace}" if scope.namespace else ""
    return f"{prefix}{inside}/{plural}"


async def _or_os_error(awaitable: Awaitable[T]) -> T:
    """The client's many errors are one to us: the API server did not answer as it should."""
    try:
        return await awaitable
    except (aiohttp.ClientError, TimeoutError, ApiException) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
