"""What the operator writes on pods that live: where a ready one answers, nudges for silent ones.

Knows annotations and when they are due; does not know replicas. Written only when they differ.
"""

from __future__ import annotations

import logging

from stoker_api import names
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest, key_of
from stoker_operator.cluster.pods import shows_life, wanted_address
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.decide.nudge import is_nudge_due, next_nudge_in
from stoker_operator.errors import Conflict, NotFound

logger = logging.getLogger(__name__)


class Marks:
    """Annotations on pods."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot) -> None:
        self._cluster = cluster
        self._snapshot = snapshot

    async def attend(self, pod: Manifest, now: float) -> float | None:
        """Write what is due on one pod; when to look at it again."""
        await self._mark_address(pod, now)
        return await self._nudge(pod, now)

    async def _mark_address(self, pod: Manifest, now: float) -> None:
        """Tell all gateways where a ready pod answers, not only the one that heard it."""
        metadata = pod["metadata"]
        address = wanted_address(pod, self._snapshot.announced(metadata["uid"]))
        if address != metadata.get("annotations", {}).get(names.ANNOTATION_ADDRESS):
            await self._annotate(pod, {names.ANNOTATION_ADDRESS: address}, now)

    async def _nudge(self, pod: Manifest, now: float) -> float | None:
        """Touch a pod that stays silent on its node."""
        metadata = pod["metadata"]
        placed_at = self._snapshot.scheduled_at(metadata["uid"])
        if placed_at is None or shows_life(pod, self._snapshot.announced(metadata["uid"])):
            return None
        num_nudges = int(metadata.get("annotations", {}).get(names.ANNOTATION_NUDGED, 0))
        if is_nudge_due(now - placed_at, num_nudges):
            num_nudges += 1
            logger.info("touch pod %s: silent for %.1f s", key_of(pod), now - placed_at)
            await self._annotate(pod, {names.ANNOTATION_NUDGED: str(num_nudges)}, now)
        wait_s = next_nudge_in(now - placed_at, num_nudges)
        return None if wait_s is None else now + wait_s

    async def _annotate(self, pod: Manifest, marks: dict[str, str | None], now: float) -> None:
        try:
            left = await self._cluster.annotate("Pod", pod["metadata"], marks)
            self._snapshot.upsert(left, "Pod", now)
        except (NotFound, Conflict):
            self._snapshot.remove(pod, "Pod")
