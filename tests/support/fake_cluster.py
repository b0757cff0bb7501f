"""A cluster in memory: keeps manifests, numbers versions, can die at any write.

It implements `stoker_operator.cluster.client.Cluster` and knows as much of an API server as the
operator relies on: apply creates or merges, deletes wait for a pod that runs, preconditions hold.
Manifests are shared, never changed in place.
"""

from __future__ import annotations

import itertools
from typing import Any

from stoker_operator.cluster.kinds import key_of
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import Conflict, NotFound

Manifest = dict[str, Any]
KINDS = (
    *("LLMDeployment", "WarmPool", "Pod", "Service", "PersistentVolumeClaim"),
    "PodDisruptionBudget",
)


class Killed(BaseException):
    """The operator's process ended at this write."""


class FakeCluster:
    """Objects by kind and key, and every write that was made."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.writes: list[tuple[str, str, str]] = []
        """Verb, kind and key of each write."""
        self.kill_at: int | None = None
        """The write at which to die, counted from 0."""
        self.graces: dict[str, int | None] = {}
        """Seconds that deleted pods were given, other than their own."""
        self.reply_lost = False
        """Whether the write that kills takes effect."""
        self.refuse: dict[str, Exception] = {}
        """What to raise for writes of a kind."""
        self.refuse_creates: Exception | None = None
        """What to raise for new objects."""
        self._versions = itertools.count(1)

    def put(self, manifest: Manifest) -> Manifest:
        """What others do: create or replace an object; its status stays."""
        known = self.objects.get((manifest["kind"], key_of(manifest)))
        if known and "status" in known:
            manifest = {"status": known["status"]} | manifest
        version = next(self._versions)
        uid = known["metadata"]["uid"] if known else f"uid-{version}"
        metadata = {"uid": uid, "creationTimestamp": "2026-11-21T10:00:00Z"} | manifest["metadata"]
        metadata["resourceVersion"] = str(version)
        stored = manifest | {"metadata": metadata}
        self.objects[manifest["kind"], key_of(manifest)] = stored
        return stored

    def of_kind(self, kind: str) -> list[Manifest]:
        """All objects of a kind, by key."""
        return [self.objects[each] for each in sorted(self.objects) if each[0] == kind]

    def show(self, snapshot: Snapshot, now: float) -> None:
        """What a resync does."""
        version = str(next(self._versions))
        for kind in KINDS:
            listed = {"metadata": {"resourceVersion": version}, "items": self.of_kind(kind)}
            snapshot.replace(kind, listed, now)
        snapshot.synced = True

    async def apply(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""
        return self._write("apply", manifest, lambda known: _merged(known or {}, manifest))

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""

        def change(known: Manifest | None) -> Manifest:
            if known is None:
                raise NotFound("gone")
            return known | {"status": manifest["status"]}

        return self._write("status", manifest, change)

    async def annotate(
        self, kind: str, metadata: Manifest, annotations: dict[str, str | None]
    ) -> Manifest:
        """See `Cluster`."""

        def change(known: Manifest | None) -> Manifest:
            if known is None or known["metadata"]["uid"] != metadata["uid"]:
                raise Conflict("another object")
            marks = known["metadata"].get("annotations", {}) | annotations
            marks = {key: value for key, value in marks.items() if value is not None}
            return known | {"metadata": known["metadata"] | {"annotations": marks}}

        return self._write("annotate", {"kind": kind, "metadata": metadata}, change)

    async def delete(self, kind: str, metadata: Manifest, grace_s: int | None = None) -> Manifest:
        """See `Cluster`. A pod on a node drains; `put` and `objects` finish it."""
        key = f"{metadata['namespace']}/{metadata['name']}"

        def change(known: Manifest | None) -> Manifest:
            _check(known, metadata)
            assert known is not None
            return known | {"metadata": known["metadata"] | {"deletionTimestamp": "now"}}

        left = self._write("delete", {"kind": kind, "metadata": metadata}, change)
        self.graces[key] = grace_s
        if kind != "Pod" or not left["spec"].get("nodeName"):
            del self.objects[kind, key]
            return {"kind": "Status"}
        return left

    async def change(self, manifest: Manifest) -> Manifest:
        """See `Cluster`. As a JSON merge patch: None removes, a list takes another's place."""

        def change(known: Manifest | None) -> Manifest:
            _check(known, manifest["metadata"])
            merged: Manifest = _merge_patch(known, manifest)
            return merged

        return self._write("change", manifest, change)

    async def share(self, manifest: Manifest) -> None:
        """See `Cluster`."""
        added = manifest["metadata"]["ownerReferences"]

        def change(known: Manifest | None) -> Manifest:
            if known is None:
                raise NotFound("gone")
            kept = known["metadata"].get("ownerReferences", [])
            owners = [*(one for one in kept if one not in added), *added]
            return known | {"metadata": known["metadata"] | {"ownerReferences": owners}}

        self._write("share", manifest, change)

    async def create(self, manifest: Manifest) -> Manifest:
        """See `Cluster`."""

        def change(known: Manifest | None) -> Manifest:
            if known is not None:
                raise Conflict("exists")
            return manifest

        return self._write("create", manifest, change)

    async def list(
        self, kind: str, namespace: str = "", query: tuple[tuple[str, str], ...] = ()
    ) -> Manifest:
        """See `Cluster`: Events about one object, for one reason."""
        wanted = dict(part.split("=", 1) for part in dict(query)["fieldSelector"].split(","))
        about = wanted["involvedObject.uid"]
        found = [
            event
            for event in self.of_kind(kind)
            if event["involvedObject"]["uid"] == about and event["reason"] == wanted["reason"]
        ]
        return {"items": found}

    def _write(self, verb: str, manifest: Manifest, change: Any) -> Manifest:
        kind, key = manifest["kind"], key_of(manifest)
        dies = self.kill_at == len(self.writes)
        self.writes.append((verb, kind, key))
        if dies and not self.reply_lost:
            raise Killed(verb, key)
        if verb == "create" and self.refuse_creates is not None:
            raise self.refuse_creates
        if kind in self.refuse:
            raise self.refuse[kind]
        left = self.put(change(self.objects.get((kind, key))))
        if dies:
            raise Killed(verb, key)
        return left


def _check(known: Manifest | None, metadata: Manifest) -> None:
    """Preconditions: the very object, and its version if one is named."""
    if known is None or known["metadata"]["uid"] != metadata["uid"]:
        raise NotFound("gone")
    version = known["metadata"]["resourceVersion"]
    if metadata.get("resourceVersion", version) != version:
        raise Conflict("it has changed")


def _merge_patch(known: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    base = known if isinstance(known, dict) else {}
    merged = base | {key: _merge_patch(base.get(key), value) for key, value in patch.items()}
    return {key: value for key, value in merged.items() if value is not None}


def _merged(known: Any, wanted: Any) -> Any:
    if isinstance(known, dict) and isinstance(wanted, dict):
        return known | {key: _merged(known.get(key), value) for key, value in wanted.items()}
    return wanted
