"""Tells what was seen and decided: the status of a deployment, and Events for its turning points.

Knows when a write is worth it; what it says is derived in `decide`. Writes nothing when nothing has
changed for a reader, and numbers that move with every request only once in a while.
"""

from __future__ import annotations

import itertools
import logging
import time

from pydantic import ValidationError

from stoker_api import names
from stoker_api.conditions import (
    Condition,
    ConditionType,
    Phase,
    Reason,
    format_instant,
    merge_conditions,
)
from stoker_api.status import LLMDeploymentStatus
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.metadata import build_status, format_selector
from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.decide.autoscaler import ScaleDecision
from stoker_operator.decide.coldstart import estimate_cold_start_s, record_cold_starts
from stoker_operator.decide.event import Note, derive_notes
from stoker_operator.decide.observed import Observed
from stoker_operator.decide.size import guess_fit
from stoker_operator.decide.speed import record_speed
from stoker_operator.decide.status import (
    REFRESH_S,
    StatusSources,
    cold_start_deadline,
    derive_status,
    is_worth_writing,
)
from stoker_operator.errors import ClusterError, NotFound
from stoker_operator.handlers.memory import Memory

logger = logging.getLogger(__name__)

COMPONENT = "stoker.dev/operator"
_serial = itertools.count()


class Reporter:
    """Writes status and Events."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot, gateway_url: str) -> None:
        self._cluster = cluster
        self._snapshot = snapshot
        self._gateway_url = gateway_url

    async def report(
        self,
        deployment: LLMDeployment,
        observed: Observed,
        decision: ScaleDecision,
        memory: Memory,
        now: float,
    ) -> float | None:
        """Write the status if it is worth it and no wake is on; when to look again."""
        written = deployment.status
        before = memory.draft or written
        sources = StatusSources(
            before=before,
            observed=observed,
            decision=decision,
            failures=memory.failures,
            cold_start_s=estimate_cold_start_s(memory.history, deployment.spec.model.source),
            url=self._gateway_url,
            selector=format_selector(deployment.metadata.name),
            rejection=memory.rejection,
            guess=guess_fit(deployment.spec),
            last_cold_start=memory.last_cold_start,
            cold_starts=record_cold_starts(memory.history) if memory.last_cold_start else None,
            speed=record_speed(before.speed, memory.speed),
        )
        after = derive_status(sources, now)
        if is_worth_writing(before, after):
            memory.draft, memory.notes = after, (*memory.notes, *derive_notes(before, after))
        refresh_at: float | None = None
        if memory.draft is not None or (written != after and now >= memory.written_at + REFRESH_S):
            if not memory.is_quiet(now):
                await self._write(deployment, after, memory, now)
        elif written != after:
            refresh_at = memory.written_at + REFRESH_S
        deadline = cold_start_deadline(observed)
        later = [at for at in (refresh_at, deadline) if at is not None and at > now]
        return min(later, default=None)

    async def report_invalid(self, manifest: Manifest, error: ValidationError, now: float) -> None:
        """Say which field of an object cannot be read; the CRD normally refuses such objects."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        metadata = manifest["metadata"]
        invalid = Condition(
            type=ConditionType.READY,
            status="False",
            reason=Reason.INVALID_SPEC,
            message=f"{where}: {first['msg']}. Correct the field.",
            observed_generation=metadata.get("generation", 0),
        )
        raw = manifest.get("status", {}).get("conditions", [])
        before = [Condition.model_validate(condition) for condition in raw]
        conditions = merge_conditions(before, [invalid], now)
        if before == conditions:
            return
        status = LLMDeploymentStatus(
            observed_generation=metadata.get("generation", 0),
            phase=Phase.FAILED,
            conditions=conditions,
        )
        await self._apply(metadata, status, now)

    async def _write(
        self,
        deployment: LLMDeployment,
        status: LLMDeploymentStatus,
        memory: Memory,
        now: float,
    ) -> None:
        metadata = deployment.metadata.model_dump(by_alias=True)
        await self._apply(metadata, status, now)
        notes, memory.draft, memory.notes, memory.written_at = memory.notes, None, (), now
        for note in notes:
            await self._record(metadata, note)

    async def _apply(self, metadata: Manifest, status: LLMDeploymentStatus, now: float) -> None:
        manifest = build_status("LLMDeployment", metadata, status)
        try:
            left = await self._cluster.apply_status(manifest)
            self._snapshot.upsert(left, "LLMDeployment", now)
        except NotFound:
            logger.info("%s is gone", metadata["name"])

    async def record(self, deployment: LLMDeployment, note: Note) -> None:
        """An Event about something that no status keeps."""
        await self._record(deployment.metadata.model_dump(by_alias=True), note)

    async def _record(self, metadata: Manifest, note: Note) -> None:
        """An Event; a story that is lost is no reason to stop."""
        try:
            await self._cluster.create(build_event(metadata, note, time.time()))
        except ClusterError as error:
            logger.warning("event %s not recorded: %s", note.reason, error)


def build_event(metadata: Manifest, note: Note, now: float) -> Manifest:
    """A core/v1 Event about a deployment."""
    instant = format_instant(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{int(now * 1e6):x}{next(_serial):x}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": "LLMDeployment",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": note.severity,
        "reason": note.reason,
        "message": note.message[:1024],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": names.FIELD_MANAGER,
        "action": "Reconcile",
        "firstTimestamp": instant,
        "lastTimestamp": instant,
        "eventTime": None,
        "count": 1,
    }
