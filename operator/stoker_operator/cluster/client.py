"""The one seam to the Kubernetes API: apply, delete, patch, list, watch.

Knows paths, verbs, patch types and how refusals are told apart; does not know what is written or
why. Everything is a plain manifest: generated models would cost memory and time on the wake path.
Writes of a process that does not lead are refused here, so no caller can forget to ask. Where the
server asks for patience (`Retry-After`, priority and fairness), every verb waits and asks again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from stoker_api import names
from stoker_operator.cluster.kinds import Manifest, path_of
from stoker_operator.errors import ClusterError, Conflict, LeaseLost, NotFound, Rejected
from stoker_operator.metrics import WRITES

TIMEOUT_S = 10.0
WATCH_S = 50
"""A watch is renewed this often: one that died in silence is missed for a minute at most."""
KEEP_ALIVE_S = 85.0
"""Just less than the API server keeps an idle connection; every resync uses several."""
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json"

BUSY = (429, 503)
"""What is answered to a request that nothing was done about: with `Retry-After` it is repeated."""

Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the API."""

    method: str
    path: str
    query: Query = ()
    body: Any = None
    content_type: str = JSON
    timeout_s: float = TIMEOUT_S
    """Of one answer, and of all that the server has us wait for it."""
    needs_lease: bool = False
    """It is a write of the leader's, however long it had to wait."""


class Cluster(Protocol):
    """What reconciling needs of a cluster; `KubeCluster` talks to one, tests have a small fake."""

    async def apply(self, manifest: Manifest) -> Manifest:
        """Create or update by server-side apply; what is there now."""

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """The same for the status subresource; what is there now."""

    async def annotate(
        self, kind: str, metadata: Manifest, annotations: dict[str, str | None]
    ) -> Manifest:
        """Set annotations, or remove those with None, of the very object with that uid."""

    async def change(self, manifest: Manifest) -> Manifest:
        """Merge a manifest into the very object with its uid and version; what is there now."""

    async def share(self, manifest: Manifest) -> None:
        """Add the owners of a manifest to those that the object has: it goes with the last one."""

    async def delete(self, kind: str, metadata: Manifest, grace_s: int | None = None) -> Manifest:
        """Delete the very object with that uid, and version if one is given; what is left of it
        while it drains, for `grace_s` instead of its own time."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object whose name nobody else takes: an Event, a Lease."""

    async def list(self, kind: str, namespace: str = "", query: Query = ()) -> Manifest:
        """What there is of a kind; for what is not followed."""


class KubeCluster:
    """A real API server, through the official client."""

    def __init__(self, api: ApiClient, may_write: Callable[[], bool]) -> None:
        self._api = api
        self._may_write = may_write

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def apply(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""
        return await self._patch(manifest, APPLY)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""
        return await self._patch(manifest, APPLY, "/status")

    async def annotate(
        self, kind: str, metadata: Manifest, annotations: dict[str, str | None]
    ) -> Manifest:
        """See `Cluster`. A merge patch: applying would take back what is not in it."""
        meta = {key: metadata[key] for key in ("name", "namespace", "uid")}
        manifest = {"kind": kind, "metadata": meta | {"annotations": annotations}}
        return await self._patch(manifest, MERGE)

    async def change(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""
        return await self._patch(manifest, MERGE)

    async def share(self, manifest: Manifest) -> None:
        """See `Cluster`. A strategic merge: owners are told apart by their uid."""
        await self._patch(manifest, STRATEGIC)

    async def delete(self, kind: str, metadata: Manifest, grace_s: int | None = None) -> Manifest:
        """See `Cluster`."""
        guards = ("uid", "resourceVersion")
        known = {key: metadata[key] for key in guards if key in metadata}
        options: Manifest = {"preconditions": known}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        path = path_of(kind, metadata["namespace"], metadata["name"])
        return await self._write(kind, "delete", Request("DELETE", path, body=options))

    async def create(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""
        kind = manifest["kind"]
        path = path_of(kind, manifest["metadata"]["namespace"])
        return await self._write(kind, "create", Request("POST", path, body=manifest))

    async def list(self, kind: str, namespace: str = "", query: Query = ()) -> Manifest:
        """A whole list, no older than the call."""
        return await self.call(Request("GET", path_of(kind, namespace), query))

    async def read(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object."""
        return await self.call(Request("GET", path_of(kind, namespace, name)))

    async def watch(
        self, kind: str, namespace: str, query: Query = ()
    ) -> AsyncGenerator[tuple[str, Manifest]]:
        """What there is (`LISTED`, one list), then its changes, until it has to be renewed.

        The first item is the list itself, so that the caller can drop what is gone.
        """
        listed = await self.list(kind, namespace, query)
        yield "LISTED", listed
        since = (("watch", "true"), ("resourceVersion", listed["metadata"]["resourceVersion"]))
        period = (("timeoutSeconds", str(WATCH_S)),)
        path = path_of(kind, namespace)
        follow = Request("GET", path, query + since + period, timeout_s=WATCH_S + 10)
        response = await self._open(follow)
        try:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ClusterError(f"watch of {path} broke: {error!r}") from error
        finally:
            response.close()

    async def _patch(
        self, manifest: Manifest, content_type: str, subresource: str = ""
    ) -> Manifest:
        metadata = manifest["metadata"]
        path = path_of(manifest["kind"], metadata["namespace"], metadata["name"]) + subresource
        query: Query = (("fieldManager", names.FIELD_MANAGER),)
        if content_type == APPLY:
            query += (("force", "true"),)
        request = Request("PATCH", path, query, manifest, content_type)
        return await self._write(
            manifest["kind"], "apply" if content_type == APPLY else "patch", request
        )

    async def _write(self, kind: str, verb: str, request: Request) -> Manifest:
        self._check_lease()
        WRITES.labels(kind, verb).inc()
        return await self.call(replace(request, needs_lease=True))

    def _check_lease(self) -> None:
        if not self._may_write():
            raise LeaseLost("this process does not lead")

    async def call(self, request: Request) -> Manifest:
        """One call, and its JSON answer. Raises `ClusterError`."""
        response = await self._open(request)
        try:
            document: Manifest = json.loads(await response.read())
            return document
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ClusterError(f"{request.method} {request.path}: {error!r}") from error
        finally:
            response.release()

    async def _open(self, request: Request) -> aiohttp.ClientResponse:
        waited_s = 0.0
        while True:
            try:
                return await self._ask(request)
            except ClusterError as error:
                pause_s = error.retry_after_s
                waited_s += pause_s
                if not pause_s or waited_s > request.timeout_s:
                    raise
            await asyncio.sleep(pause_s)
            if request.needs_lease:
                self._check_lease()

    async def _ask(self, request: Request) -> aiohttp.ClientResponse:
        verb, url, headers, payload, _ = await self._api.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query),
            header_params={"Accept": JSON, "Content-Type": request.content_type},
            body=request.body,
            auth_settings=["BearerToken"],
        )
        timeout = aiohttp.ClientTimeout(total=request.timeout_s)
        try:
            answer = await self._api.call_api(verb, url, headers, payload, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            if response.status >= 300:
                raise _refusal(request, response, await response.text())
            return response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"{request.method} {request.path}: {error!r}") from error


async def connect(may_write: Callable[[], bool], kubeconfig: str | None = None) -> KubeCluster:
    """A cluster by service account or, outside of pods, by kubeconfig (default: as kubectl)."""
    configuration = Configuration()
    try:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await _load_kubeconfig(configuration, kubeconfig)
    api = ApiClient(configuration)
    api.rest_client.pool_manager = _lasting_session(api)
    return KubeCluster(api, may_write)


def _lasting_session(api: ApiClient) -> aiohttp.ClientSession:
    """Connections that outlive a quiet minute, so that a wake does not wait for a handshake."""
    connector = aiohttp.TCPConnector(
        ssl=api.rest_client.ssl_context, limit=0, keepalive_timeout=KEEP_ALIVE_S
    )
    return aiohttp.ClientSession(connector=connector, read_bufsize=2**21)


async def _load_kubeconfig(configuration: Configuration, path: str | None) -> None:
    try:
        await config.load_kube_config(path, None, configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        message = f"neither a service account nor a usable kubeconfig: {error}"
        raise ClusterError(message) from error


def _refusal(request: Request, response: aiohttp.ClientResponse, text: str) -> ClusterError:
    status = response.status
    try:
        message = json.loads(text).get("message", text)
    except ValueError:
        message = text[:500]
    kinds = {404: NotFound, 409: Conflict, 410: Conflict, 400: Rejected, 403: Rejected}
    kind = kinds.get(status, Rejected if status == 422 else ClusterError)
    pause = response.headers.get("Retry-After", "") if status in BUSY else ""
    pause_s = float(pause) if pause.isdecimal() else 0.0  # the other form, a date, is not used
    words = f"{request.method} {request.path}: {status} {message}"
    return kind(words, status, pause_s)
