"""The whole truth, looked up: at the start, and now and then against what watches may have missed.

Knows which kinds there are and where they are listed; does not know watches. An object that
vanished while a watch was down is only noticed here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stoker_api import names
from stoker_operator.cluster.client import KubeCluster, Query
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import ClusterError, NotFound

logger = logging.getLogger(__name__)

SELECTORS = {
    "LLMDeployment": "",
    "WarmPool": "",
    "Pod": f"{names.LABEL_NAME}={names.RUNTIME_NAME}",
    "Service": names.LABEL_DEPLOYMENT,
    "PersistentVolumeClaim": "",
    "PodDisruptionBudget": names.LABEL_DEPLOYMENT,
}
"""Kinds that are followed, and the labels that concern us."""
RETRY_S = 0.5
ANY_VERSION = "0"
"""As `resourceVersion` of a list: from memory, without a question to etcd."""


@dataclass(slots=True)
class Resync:
    """Lists everything into the snapshot."""

    cluster: KubeCluster
    snapshot: Snapshot
    namespaces: tuple[str, ...]
    """Empty strings mean everywhere."""
    on_change: Callable[[str, str], None]
    """Kind and key of an object that was news or is gone."""

    async def first(self) -> None:
        """List until it succeeds: the CRDs may be on their way, or the API server."""
        while not self.snapshot.synced:
            try:
                await self.once()
                self.snapshot.synced = True
            except NotFound:
                logger.warning("the CRDs of %s are not installed yet", names.GROUP)
                await asyncio.sleep(RETRY_S)
            except ClusterError as error:
                logger.warning("cannot list: %s", error)
                await asyncio.sleep(max(RETRY_S, error.retry_after_s))

    async def forever(self, period_s: float) -> None:
        """List now and then, what the API server has in memory: any version will do.

        It may be behind what watches have told. Nothing follows from that: an older version never
        replaces a newer one, what the list does not have goes only if it is older than the list,
        and what the list is too old to know is for the next one. The first list of a process is
        the truth of its moment, for there is nothing yet that it could be measured against.
        """
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.once(ANY_VERSION)
            except ClusterError as error:
                logger.warning("cannot list: %s", error)

    async def once(self, not_older: str = "") -> None:
        """List every kind and tell what was not known; `not_older`: the version that suffices, by
        default what there is at the moment of asking."""
        lists = await asyncio.gather(*(self._list(kind, not_older) for kind in SELECTORS))
        for kind, listed in zip(SELECTORS, lists, strict=True):
            for key in self.snapshot.replace(kind, listed, time.time()):
                self.on_change(kind, key)

    async def _list(self, kind: str, not_older: str) -> Manifest:
        """One kind; items of core lists do not say what they are, the list does."""
        wanted = (("labelSelector", SELECTORS[kind]), ("resourceVersion", not_older))
        query: Query = tuple((name, value) for name, value in wanted if value)
        lists = [await self.cluster.list(kind, place, query) for place in self.namespaces]
        oldest = min(lists, key=lambda each: int(each["metadata"]["resourceVersion"]))
        version = lists[0].get("apiVersion", "")
        items = [{"apiVersion": version, "kind": kind} | item for item in _items(lists)]
        return {"metadata": oldest["metadata"], "items": items}


def _items(lists: Iterable[Manifest]) -> Iterable[Manifest]:
    return (item for each in lists for item in each["items"])
