"""Who acts: one leader by a `coordination.k8s.io` Lease, with a takeover in seconds.

Knows the Lease and nothing of what the leader does. Why not the official client's elector: it
polls (a takeover takes a lease and a period), counts by wall clocks, never releases, and a call
that hangs lets a leader outlive its lease.

A standby watches: every renewal that it sees starts its own clock again, so clocks of machines need
not agree. A leader trusts itself for less time than a standby waits, counted from before it asked
for the renewal. A process that finds its own name in the Lease takes over at once: the one before
it in the same pod is dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime

from stoker_operator.cluster.client import KubeCluster, Request
from stoker_operator.cluster.kinds import Manifest, path_of, version_of
from stoker_operator.errors import ClusterError, Conflict, NotFound
from stoker_operator.metrics import LEADER, WRITES

logger = logging.getLogger(__name__)

SAFETY = 0.8
"""The part of a lease in which a leader may write, from before it asked for it."""
PATIENCE = 0.9
"""The part of a lease that a standby lets pass, from when it saw the last renewal."""
RETRY_S = 0.2


class Lease:
    """This process's view of the Lease."""

    def __init__(self, namespace: str, name: str, identity: str, duration_s: float) -> None:
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration_s = duration_s
        self._held_until = 0.0
        self._seen_at = time.monotonic()
        self._manifest: Manifest | None = None
        self.checked_at = time.monotonic()
        """When the loop last came round, for the liveness probe."""

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return time.monotonic() < self._held_until

    async def run(self, cluster: KubeCluster, on_lead: Callable[[], None]) -> None:
        """Follow, take over, lead, and so on for ever."""
        complaint = ""
        while True:
            self.checked_at = time.monotonic()
            try:
                await self._follow(cluster)
                if await self._acquire(cluster):
                    logger.info("leading as %s", self._identity)
                    LEADER.set(1)
                    on_lead()
                    await self._lead(cluster)
            except ClusterError as error:
                if str(error) != complaint:  # tried again five times a second, said once
                    complaint = str(error)
                    logger.warning("lease: %s", complaint)
                await asyncio.sleep(max(RETRY_S, error.retry_after_s))
            LEADER.set(0)

    async def release(self, cluster: KubeCluster) -> None:
        """Let a standby take over now."""
        if not self.leads or self._manifest is None:
            return
        self._held_until = 0.0
        LEADER.set(0)
        manifest = self._stamped(self._manifest)
        manifest["spec"]["holderIdentity"] = ""
        await self._put(cluster, manifest)

    async def _follow(self, cluster: KubeCluster) -> None:
        """Return when the Lease is free, ours, or has not changed for as long as it lasts."""
        query = (("fieldSelector", f"metadata.name={self._name}"),)
        while True:
            async with aclosing(cluster.watch("Lease", self._namespace, query)) as events:
                while True:
                    self.checked_at = time.monotonic()
                    patience_s = max(
                        0.05, self._seen_at + self._duration_s * PATIENCE - time.monotonic()
                    )
                    try:
                        async with asyncio.timeout(patience_s):
                            event = await anext(events)
                    except TimeoutError:
                        return
                    except StopAsyncIteration:
                        break
                    if self._is_free(*event):
                        return

    def _is_free(self, event: str, document: Manifest) -> bool:
        seen: Manifest | None = document
        if event == "LISTED":
            seen = next(iter(document["items"]), None)
        if seen is None or event == "DELETED":
            self._manifest = None
            return True
        if self._manifest is None or version_of(seen) != version_of(self._manifest):
            self._seen_at = time.monotonic()
        self._manifest = seen
        return seen["spec"].get("holderIdentity") in ("", None, self._identity)

    async def _acquire(self, cluster: KubeCluster) -> bool:
        """Write our name over exactly what we saw; whoever is first wins."""
        asked_at = time.monotonic()
        try:
            if self._manifest is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                fresh = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                manifest = self._stamped(fresh | {"metadata": metadata, "spec": {}})
                path = path_of("Lease", self._namespace)
                WRITES.labels("Lease", "create").inc()
                self._manifest = await cluster.call(Request("POST", path, body=manifest))
            else:
                self._manifest = await self._put(cluster, self._stamped(self._manifest))
        except (Conflict, NotFound):
            return False
        self._held_until = asked_at + self._duration_s * SAFETY
        return True

    async def _lead(self, cluster: KubeCluster) -> None:
        """Renew until somebody else holds the Lease or the time is up."""
        while self.leads and self._manifest is not None:
            self.checked_at = time.monotonic()
            await asyncio.sleep(self._duration_s / 3)
            asked_at = time.monotonic()
            try:
                self._manifest = await self._put(cluster, self._stamped(self._manifest))
                self._held_until = asked_at + self._duration_s * SAFETY
            except Conflict:
                if not await self._still_ours(cluster):
                    self._held_until = 0.0
            except ClusterError as error:
                logger.warning("lease not renewed: %s", error)
        logger.warning("no longer leading")

    async def _still_ours(self, cluster: KubeCluster) -> bool:
        self._manifest = await cluster.read("Lease", self._namespace, self._name)
        self._seen_at = time.monotonic()
        return bool(self._manifest["spec"].get("holderIdentity") == self._identity)

    async def _put(self, cluster: KubeCluster, manifest: Manifest) -> Manifest:
        WRITES.labels("Lease", "update").inc()
        path = path_of("Lease", self._namespace, self._name)
        timeout_s = self._duration_s / 3
        return await cluster.call(Request("PUT", path, body=manifest, timeout_s=timeout_s))

    def _stamped(self, manifest: Manifest) -> Manifest:
        """The Lease as it reads when we hold it from now on."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(manifest["spec"])
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", -1) + 1
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "renewTime": now,
        }
        return manifest | {"spec": spec}
