"""kopf's part: settings, watches, and what each event touches.

Knows kopf and nothing of decisions: an event goes into the snapshot, and the keys that it concerns
go into a queue. Only low-level handlers are used, so kopf writes nothing to any object: no
finalizer, no annotation, no Event, no peering.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import kopf

from stoker_api import names
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.resync import SELECTORS
from stoker_operator.cluster.snapshot import Snapshot, deployments_using, pool_named
from stoker_operator.cluster.standby import pool_of
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.workqueue import WorkQueue
from stoker_operator.metrics import DEPLOYMENTS

_RESOURCES = {
    "LLMDeployment": (names.GROUP, names.VERSION, "llmdeployments"),
    "WarmPool": (names.GROUP, names.VERSION, "warmpools"),
    "Pod": ("", "v1", "pods"),
    "Service": ("", "v1", "services"),
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
}


@dataclass(slots=True)
class Intake:
    """Where events go."""

    snapshot: Snapshot
    children: Children
    deployments: WorkQueue
    pools: WorkQueue

    def take(self, kind: str, event: str | None, manifest: Manifest, now: float) -> None:
        """One watch event: remember it, and have looked at what it concerns."""
        if kind == "LLMDeployment":
            self._touch_pools(self.snapshot.get(kind, key_of(manifest)), manifest)
        if event == "DELETED":
            changed = self.snapshot.remove(manifest, kind)
            if kind == "Service":
                self.children.forget(_owner_of(manifest))
        else:
            changed = self.snapshot.upsert(manifest, kind, now)
        if changed:
            DEPLOYMENTS.set(len(self.snapshot.keys("LLMDeployment")))
            if kind == "Pod" and (pool := pool_of(manifest)):
                self.pools.add(pool)
                if not _owner_of(manifest):
                    return
            self.touch(kind, key_of(manifest), _owner_of(manifest))

    def touch(self, kind: str, key: str, owner: str = "") -> None:
        """Queue whatever an object of this kind and key concerns."""
        match kind:
            case "LLMDeployment":
                self.deployments.add(key)
            case "WarmPool":
                self.pools.add(key)
            case "PersistentVolumeClaim":
                for deployment in deployments_using(self.snapshot, key):
                    self.deployments.add(deployment)
                self._touch_namespace(self.pools, "WarmPool", key)
            case _:
                self._touch_owner(key, owner)

    def touch_all(self) -> None:
        """Queue everything: this process leads now, or gateways came or went."""
        for key in self.snapshot.keys("LLMDeployment"):
            self.deployments.add(key)
        for key in self.snapshot.keys("WarmPool"):
            self.pools.add(key)

    def _touch_owner(self, key: str, owner: str) -> None:
        if owner:
            self.deployments.add(owner)
            return
        self._touch_namespace(self.deployments, "LLMDeployment", key)
        self._touch_namespace(self.pools, "WarmPool", key)

    def _touch_namespace(self, queue: WorkQueue, kind: str, key: str) -> None:
        namespace = key.split("/", 1)[0]
        for each in self.snapshot.keys(kind):
            if each.startswith(f"{namespace}/"):
                queue.add(each)

    def _touch_pools(self, *deployments: Manifest | None) -> None:
        """The pools that a deployment names, or named: what their standbys mount follows it."""
        for name in {pool_named(one) for one in deployments if one is not None} - {""}:
            self.pools.add(name)


async def follow(intake: Intake, namespaces: list[str], on_begun: Callable[[], None]) -> None:
    """Take in what happens in these namespaces, all of them if none is named, until cancelled."""
    existing = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=build_registry(intake, time.time),
        settings=build_settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
    )
    on_begun()
    running = asyncio.create_task(kopf.run_tasks(tasks, ignored=existing), name="kopf")
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await leave(running, asyncio.all_tasks() - existing)
        raise


async def leave(running: asyncio.Task[None], theirs: Collection[asyncio.Task[Any]]) -> None:
    """End kopf, and have the streams closed that it was reading, the outer ones first.

    A watcher that is cancelled between two events leaves its stream open, and is kept alive by the
    traceback of its own cancellation. At the end of the loop all that is open is closed at once:
    nested streams fail then, with pages of traceback. Asking how a task ended drops its traceback.
    """
    running.cancel()
    await asyncio.wait([running])
    for task in theirs:
        if task.cancelled():
            with suppress(asyncio.CancelledError):
                task.result()


def build_registry(intake: Intake, clock: Any) -> kopf.OperatorRegistry:
    """One handler for every event of every kind that is followed."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for kind, (group, version, plural) in _RESOURCES.items():
        _follow(registry, intake, kind, (group, version, plural), clock)
    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf as quiet and as quick as it can be."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{names.GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 0.1
    settings.networking.enforce_retry_after = True
    settings.process.ultimate_exiting_timeout = 10
    for kind, selector in SELECTORS.items():
        if selector:
            settings.watching.label_selectors[_RESOURCES[kind]] = selector
    logging.getLogger("kopf").setLevel(logging.WARNING)
    return settings


def _follow(
    registry: kopf.OperatorRegistry,
    intake: Intake,
    kind: str,
    resource: tuple[str, str, str],
    clock: Any,
) -> None:
    group, version, plural = resource

    async def on_object(event: kopf.RawEvent, **_: object) -> None:
        intake.take(kind, event["type"], dict(event["object"]), clock())

    kopf.on.event(group, version, plural, registry=registry, id=f"on_{plural}")(on_object)


async def _login(settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo | None:
    """The pod's service account, or the kubeconfig of who runs it by hand."""
    return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(
        settings=settings
    )


def _owner_of(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    name = metadata.get("labels", {}).get(names.LABEL_DEPLOYMENT, "")
    return f"{metadata['namespace']}/{name}" if name else ""
