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
                await asyncio.sleep(RETRY_S)

    async def forever(self, period_s: float) -> None:
        """List now and then."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.once()
            except ClusterError as error:
                logger.warning("cannot list: %s", error)

    async def once(self) -> None:
        """List every kind and tell what was not known."""
        lists = await asyncio.gather(*(self._list(kind, SELECTORS[kind]) for kind in SELECTORS))
        for kind, listed in zip(SELECTORS, lists, strict=True):
            for key in self.snapshot.replace(kind, listed, time.time()):
                self.on_change(kind, key)

    async def _list(self, kind: str, selector: str) -> Manifest:
        """One kind; items of core lists do not say what they are, the list does."""
        query: Query = (("labelSelector", selector),) if selector else ()
        lists = [await self.cluster.list(kind, place, query) for place in self.namespaces]
        oldest = min(lists, key=lambda each: int(each["metadata"]["resourceVersion"]))
        version = lists[0].get("apiVersion", "")
        items = [{"apiVersion": version, "kind": kind} | item for item in _items(lists)]
        return {"metadata": oldest["metadata"], "items": items}


def _items(lists: Iterable[Manifest]) -> Iterable[Manifest]:
    return (item for each in lists for item in each["items"])
