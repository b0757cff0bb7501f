"""Deleting a pod: the very one that was looked at, which from then on no longer counts.

Knows the preconditions and what the snapshot is told; does not know why a pod goes. The answer of
the API server enters the snapshot at once, so that the next look does not delete it again.
"""

from __future__ import annotations

from stoker_operator.cluster.client import Cluster
from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import Conflict, NotFound

EMPTY_GRACE_S = 5
"""A pod without requests has nothing to finish: it goes in seconds, not at its drain deadline."""


async def delete_pod(
    cluster: Cluster, snapshot: Snapshot, pod: Manifest, now: float, grace_s: int | None = None
) -> bool:
    """Delete a pod by uid; by version too where the manifest has one. `grace_s`: else its spec's.

    False: it has changed since, and stays; the watch says how.
    """
    guards = ("namespace", "name", "uid", "resourceVersion")
    metadata = {key: pod["metadata"][key] for key in guards if key in pod["metadata"]}
    try:
        left = await cluster.delete("Pod", metadata, grace_s)
    except NotFound:
        left = {}
    except Conflict:
        if "resourceVersion" in metadata:
            return False
        left = {}  # another pod bears the name by now
    if left.get("kind") == "Pod" and left["metadata"].get("deletionTimestamp"):
        snapshot.upsert(left, "Pod", now)
    else:
        snapshot.remove(pod, "Pod")
    return True
