"""Warm pools of a story: apply one, wait until it is full, look at its pods from inside.

It knows the WarmPool object and the labels of its pods; what runs in them is the real runtime.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.stage.release import Release

RESOURCES = {"gpus": 0, "cpu": "100m", "memory": "2Gi"}
_POLL_S = 0.1
_ENGINES = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline", "rb").read()
    if b"stoker_runtime.engine" in words and int(pid) != os.getpid():
        os.kill(int(pid), int(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """One applied WarmPool."""

    release: Release
    name: str

    def status(self) -> dict[str, Any]:
        """What the operator says of it."""
        found: dict[str, Any] = self.release.kubectl.get("wp", self.name).get("status", {})
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, those that serve a deployment by now included, leaving ones not."""
        found = self.release.kubectl.get("pods", "-l", f"stoker.dev/pool={self.name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def standbys(self) -> list[dict[str, Any]]:
        """Its pods that serve nobody."""
        return [pod for pod in self.pods() if deployment_of(pod) == ""]

    def wait(
        self, holds: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 120
    ) -> dict[str, Any]:
        """The status as soon as `holds`. Raises `TimeoutError` with the last one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if holds(found := self.status()):
                return found
            time.sleep(_POLL_S)
        raise TimeoutError(f"pool {self.name} is not {what}: {json.dumps(found, indent=1)}")

    def wait_full(self, count: int = 1) -> list[dict[str, Any]]:
        """The standbys as soon as `count` can be adopted."""

        def full(found: dict[str, Any]) -> bool:
            conditions = {one["type"]: one["reason"] for one in found.get("conditions", ())}
            calm = conditions.get("Progressing") == "UpToDate"
            return calm and found.get("standby", 0) >= count

        self.wait(full, f"full with {count}")
        return self.standbys()

    def signal_engine(self, pod: dict[str, Any], number: int) -> None:
        """A signal for the engine process in a pod."""
        name = pod["metadata"]["name"]
        self.release.kubectl("exec", name, "--", "python3", "-c", _ENGINES, str(int(number)))


@contextmanager
def pooled(release: Release, name: str, **spec: Any) -> Iterator[Pool]:
    """Apply a WarmPool; delete it at the end, with its standbys."""
    kind = {"apiVersion": "stoker.dev/v1alpha1", "kind": "WarmPool"}
    wanted = {"size": {"min": 1}, "resources": RESOURCES, **spec}
    release.kubectl.apply({**kind, "metadata": {"name": name}, "spec": wanted})
    pool = Pool(release, name)
    yield pool
    release.kubectl("delete", "wp", name, "--wait=true", timeout_s=60)
    deadline = time.monotonic() + 60
    while pool.pods() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


@contextmanager
def room_for(release: Release, count: int) -> Iterator[None]:
    """A namespace with room for no more than `count` pods, as when there are no more GPUs."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "room"}}
    release.kubectl.apply({**quota, "spec": {"hard": {"pods": str(count)}}})
    deadline = time.monotonic() + 30
    while "used" not in release.kubectl.get("resourcequota", "room").get("status", {}):
        assert time.monotonic() < deadline, "the quota is not counted"
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        release.kubectl("delete", "resourcequota", "room")


def deployment_of(pod: dict[str, Any]) -> str:
    """The deployment that a pod serves; empty for a standby."""
    return str(pod["metadata"]["labels"].get("stoker.dev/deployment", ""))
