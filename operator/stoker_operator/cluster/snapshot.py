"""What this process knows of the cluster: an in-memory copy, fed by watches and by own writes.

Knows objects, versions and announcements; does not know what they mean. An answer to a write enters
at once, so that the next decision does not repeat it; older news never replaces newer, nor brings
back what is gone. What watches may miss (an object that vanished while a watch was down) is
repaired by `replace`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_operator.cluster.kinds import Manifest, key_of, parse_instant, version_of

_RANK = {"Starting": 0, "Loading": 1, "Ready": 2, "Draining": 3, "Failed": 4}
SKEW_S = 5.0
"""How far clocks of nodes may be apart before an announcement is taken for another pod's."""


class Snapshot:
    """Objects by kind and key; pods also by deployment and by pool."""

    def __init__(self) -> None:
        self.synced = False
        """Whether everything was listed once; before that nothing may be decided."""
        self._objects: dict[str, dict[str, Manifest]] = defaultdict(dict)
        self._pods: dict[str, set[str]] = defaultdict(set)
        self._pool_pods: dict[str, set[str]] = defaultdict(set)
        self._gone: dict[str, dict[str, int]] = defaultdict(dict)
        """Versions by which objects of a kind had gone, by uid, for two lists at least."""
        self._listed: dict[str, int] = {}
        """The version of the latest list of a kind."""
        self._announced: dict[str, Announcement] = {}
        self._scheduled_at: dict[str, float] = {}

    def upsert(self, manifest: Manifest, kind: str, now: float) -> bool:
        """Take in an object; whether it was news."""
        manifest = _slim(kind, manifest)
        key, objects = key_of(manifest), self._objects[kind]
        known, version = objects.get(key), version_of(manifest)
        if known is not None and version <= version_of(known):
            return False
        if version <= self._gone[kind].get(manifest["metadata"]["uid"], -1):
            return False
        if known is not None:
            self._unlist(kind, known, manifest)
        objects[key] = manifest
        if kind == "Pod":
            self._index_pod(manifest, now)
        return True

    def remove(self, manifest: Manifest, kind: str) -> bool:
        """Drop an object, unless another one bears its name by now."""
        known = self._objects[kind].get(key_of(manifest))
        self._bury(kind, manifest, version_of(manifest))
        if known is None or known["metadata"]["uid"] != manifest["metadata"]["uid"]:
            return False
        self._bury(kind, known, version_of(known))
        del self._objects[kind][key_of(manifest)]
        self._forget(kind, known)
        return True

    def replace(self, kind: str, listed: Manifest, now: float) -> set[str]:
        """Take in a whole list; the keys of what was news or is gone."""
        changed = {key_of(m) for m in listed["items"] if self.upsert(m, kind, now)}
        present = {key_of(m) for m in listed["items"]}
        horizon = version_of(listed)
        for key, manifest in list(self._objects[kind].items()):
            if key not in present and version_of(manifest) <= horizon:
                self.remove(manifest, kind)
                self._bury(kind, manifest, horizon)
                changed.add(key)
        gone, before = self._gone[kind], self._listed.get(kind, 0)
        self._gone[kind] = {uid: at for uid, at in gone.items() if at > before}
        self._listed[kind] = horizon
        return changed

    def get(self, kind: str, key: str) -> Manifest | None:
        """One object."""
        return self._objects[kind].get(key)

    def keys(self, kind: str) -> list[str]:
        """All objects of a kind."""
        return list(self._objects[kind])

    def pods(self, deployment: str) -> list[Manifest]:
        """The pods of a deployment, by name."""
        return [self._objects["Pod"][key] for key in sorted(self._pods.get(deployment, ()))]

    def pool_pods(self, pool: str) -> list[Manifest]:
        """The pods of a pool, by name, those that serve a deployment by now included."""
        return [self._objects["Pod"][key] for key in sorted(self._pool_pods.get(pool, ()))]

    def all_pods(self) -> Iterable[Manifest]:
        """Every runtime pod."""
        return self._objects["Pod"].values()

    def of_pool(self, namespace: str, pool: str) -> list[Manifest]:
        """The deployments that name a pool, by name."""
        named = sorted(self._objects["LLMDeployment"].items())
        return [one for key, one in named if pool_named(one) == f"{namespace}/{pool}"]

    def claims(self, namespace: str) -> frozenset[str]:
        """The PersistentVolumeClaims of a namespace."""
        split = (key.split("/", 1) for key in self._objects["PersistentVolumeClaim"])
        return frozenset(name for place, name in split if place == namespace)

    def announce(self, announcement: Announcement) -> bool:
        """Take in what a pod says of itself; whether it was news about a pod that is there."""
        pod = self.get("Pod", f"{announcement.namespace}/{announcement.pod}")
        if pod is None or not _speaks_for(announcement, pod):
            return False
        uid = pod["metadata"]["uid"]
        known = self._announced.get(uid)
        if known is not None and _age(announcement) <= _age(known):
            return False
        self._announced[uid] = announcement
        return True

    def announced(self, uid: str) -> Announcement | None:
        """What a pod last said of itself."""
        return self._announced.get(uid)

    def scheduled_at(self, uid: str) -> float | None:
        """When this process saw a pod get its node, finer than the API's whole seconds."""
        return self._scheduled_at.get(uid)

    def _bury(self, kind: str, manifest: Manifest, version: int) -> None:
        """Remember that an object had gone by this version."""
        gone, uid = self._gone[kind], manifest["metadata"]["uid"]
        gone[uid] = max(version, gone.get(uid, 0))

    def _index_pod(self, pod: Manifest, now: float) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[_owner_of(pod, names.LABEL_DEPLOYMENT)].add(key_of(pod))
        self._pool_pods[_owner_of(pod, names.LABEL_POOL)].add(key_of(pod))
        if pod["spec"].get("nodeName"):
            self._scheduled_at.setdefault(uid, now)

    def _unlist(self, kind: str, known: Manifest, manifest: Manifest) -> None:
        """Before `manifest` takes its place: a pod that moves says everything anew."""
        if known["metadata"]["uid"] != manifest["metadata"]["uid"]:
            self._forget(kind, known)
        elif kind == "Pod":
            label = names.LABEL_DEPLOYMENT
            if _owner_of(known, label) != _owner_of(manifest, label):
                self._announced.pop(known["metadata"]["uid"], None)
            self._unindex_pod(known)

    def _forget(self, kind: str, manifest: Manifest) -> None:
        if kind == "Pod":
            self._unindex_pod(manifest)
            self._announced.pop(manifest["metadata"]["uid"], None)
            self._scheduled_at.pop(manifest["metadata"]["uid"], None)

    def _unindex_pod(self, pod: Manifest) -> None:
        self._pods[_owner_of(pod, names.LABEL_DEPLOYMENT)].discard(key_of(pod))
        self._pool_pods[_owner_of(pod, names.LABEL_POOL)].discard(key_of(pod))


def deployments_using(snapshot: Snapshot, claim: str) -> Iterable[str]:
    """Keys of the deployments whose source may be on the claim `namespace/name`."""
    namespace, name = claim.split("/", 1)
    for key in snapshot.keys("LLMDeployment"):
        spec = (snapshot.get("LLMDeployment", key) or {}).get("spec", {})
        source = spec.get("model", {}).get("source", "")
        if key.startswith(f"{namespace}/") and source.startswith(f"pvc://{name}"):
            yield key


def pool_named(deployment: Manifest) -> str:
    """`namespace/name` of the pool that a deployment's manifest names; empty when it names none."""
    scaling = deployment.get("spec", {}).get("scaling") or {}
    name = (scaling.get("warmPool") or {}).get("name", "")
    return f"{deployment['metadata']['namespace']}/{name}" if name else ""


def _owner_of(pod: Manifest, label: str) -> str:
    """`namespace/name` of the deployment or the pool that a label names."""
    metadata = pod["metadata"]
    return f"{metadata['namespace']}/{metadata.get('labels', {}).get(label, '')}"


def _slim(kind: str, manifest: Manifest) -> Manifest:
    """Without what is never read: half of a pod's bytes say who set which field."""
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    if kind == "PersistentVolumeClaim":
        return {"metadata": metadata}
    return manifest | {"metadata": metadata}


def _speaks_for(announcement: Announcement, pod: Manifest) -> bool:
    """Whether it comes from this pod, not from an earlier one of the same name or another model."""
    if announcement.key != _owner_of(pod, names.LABEL_DEPLOYMENT):
        return False
    ip = pod.get("status", {}).get("podIP")
    started_at = announcement.phases.get("container")
    created_at = parse_instant(pod["metadata"].get("creationTimestamp"))
    if ip and announcement.address and announcement.address.rsplit(":", 1)[0].strip("[]") != ip:
        return False
    return started_at is None or started_at > created_at - SKEW_S


def _age(announcement: Announcement) -> tuple[float, int, int, int]:
    """Orders what one pod says: by start of its process, then by phase, then by what it knows."""
    started_at, num_phases = announcement.phases.get("container", 0.0), len(announcement.phases)
    return (started_at, _RANK[announcement.phase], num_phases, announcement.steps)
