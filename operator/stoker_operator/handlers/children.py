"""Secret, NetworkPolicy, Services and budget of a deployment, made when due and kept in order.

Knows when a write is needed; does not know what is in them (`build` does). Never overwrites what
somebody else made under the same name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from stoker_api.names import guard_name, pool_purpose, runtime_purpose
from stoker_api.tokens import derive_token
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.disruption_budget import build_disruption_budget
from stoker_operator.build.network_policy import Release, build_network_policy
from stoker_operator.build.secret import build_token_secret
from stoker_operator.build.service import build_client_service, build_headless_service
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.pods import is_owned
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import Conflict, NotFound

logger = logging.getLogger(__name__)
BUDGET = "PodDisruptionBudget"


class Children:
    """What each deployment or pool has beside pods."""

    def __init__(
        self,
        cluster: Cluster,
        snapshot: Snapshot,
        key: bytes | None,
        gateway_host: str,
        closed_to: Release | None = None,
    ) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._key = key
        self._gateway_host = gateway_host
        self._closed_to = closed_to
        self._guarded: dict[str, str] = {}
        self._taken: set[str] = set()
        """Names that somebody else's objects bear."""

    def forget(self, deployment: str) -> None:
        """The deployment is gone, or its children may have been tampered with."""
        self._guarded.pop(deployment, None)
        self._taken = {name for name in self._taken if not name.startswith(f"{deployment}#")}

    async def apply_guards(self, deployment: LLMDeployment) -> None:
        """Write what pods must not run without, once per process: none of it may be read."""
        purpose = runtime_purpose(deployment.metadata.namespace, deployment.metadata.name)
        await self._guard(deployment.key, deployment, purpose)

    async def _guard(self, key: str, owner: LLMDeployment | WarmPool, purpose: str) -> None:
        uid = owner.metadata.uid
        if self._guarded.get(key) == uid:
            return
        guards = []
        if self._key is not None:
            guards.append(build_token_secret(owner, derive_token(self._key, purpose)))
        if self._closed_to is not None:
            guards.append(build_network_policy(owner, self._closed_to))
        await asyncio.gather(*map(self._cluster.apply, guards))
        self._guarded[key] = uid

    async def apply_pool_guards(self, pool: WarmPool) -> None:
        """The same for a pool's pods, whose admin ports have a key of their own."""
        metadata = pool.metadata
        key = f"pool/{metadata.namespace}/{metadata.name}"
        await self._guard(key, pool, pool_purpose(metadata.namespace, metadata.name))

    async def apply_services(self, deployment: LLMDeployment, now: float) -> None:
        """Make both Services, or mend them."""
        client = build_client_service(deployment, self._gateway_host)
        for wanted in (client, build_headless_service(deployment)):
            await self._keep(deployment, wanted, now)

    async def apply_budget(self, deployment: LLMDeployment, now: float) -> None:
        """Make the disruption budget, mend it, or take it away once nothing is promised."""
        wanted = build_disruption_budget(deployment)
        if wanted is not None:
            await self._keep(deployment, wanted, now)
            return
        name = guard_name(deployment.metadata.name)
        present = self._snapshot.get(BUDGET, f"{deployment.metadata.namespace}/{name}")
        if present is None or not is_owned(present, deployment.metadata.uid):
            return
        try:
            await self._cluster.delete(BUDGET, present["metadata"])
        except (NotFound, Conflict):
            return  # the watch brings what it is now
        self._snapshot.remove(present, BUDGET)

    async def _keep(self, deployment: LLMDeployment, wanted: Manifest, now: float) -> None:
        """Make an object that is followed, or mend it."""
        kind = wanted["kind"]
        present = self._snapshot.get(kind, key_of(wanted))
        if present is None:
            await self._create(deployment, wanted, now)
        elif not contains(present, wanted):
            self._snapshot.upsert(await self._cluster.apply(wanted), kind, now)

    async def _create(self, deployment: LLMDeployment, wanted: Manifest, now: float) -> None:
        kind = wanted["kind"]
        mark = f"{deployment.key}#{kind}/{wanted['metadata']['name']}"
        if mark in self._taken:
            return
        try:
            self._snapshot.upsert(await self._cluster.create(wanted), kind, now)
        except Conflict:
            self._taken.add(mark)
            logger.warning("%s %s exists and is not Stoker's; left alone", kind, key_of(wanted))


def contains(present: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; what else is there does not matter."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            contains(present.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(present, list) and all(
            any(contains(has, item) for has in present) for item in wanted
        )
    return bool(present == wanted)
