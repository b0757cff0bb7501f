"""A watch on pods that notes when each change was seen, with this machine's clock.

Kubernetes' own instants have whole seconds; a wake is measured in hundredths. Stories ask it when
a pod was written, and wait on it for states.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

_ROUND_S = 1
"""One watch request lasts this long, so that closing does; the next goes on where it ended."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One event: when it was seen (unix seconds), ADDED, MODIFIED or DELETED, and the pod."""

    at: float
    kind: str
    pod: Any

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.pod.metadata.name)


class PodWatch:
    """Watches the runtime pods of a namespace from a thread until `close`."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.seen: list[Seen] = []
        self._changed = threading.Condition()
        self._api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self._thread.start()

    def __enter__(self) -> "PodWatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._closed = True
        self._thread.join()

    def _run(self, namespace: str) -> None:
        selector = "app.kubernetes.io/name=stoker-runtime"
        listed = self._api.list_namespaced_pod(namespace, label_selector=selector)
        version = listed.metadata.resource_version
        while not self._closed:
            stream = watch.Watch().stream(
                self._api.list_namespaced_pod,
                namespace,
                label_selector=selector,
                resource_version=version,
                timeout_seconds=_ROUND_S,
            )
            for event in stream:
                version = event["object"].metadata.resource_version
                self._note(Seen(time.time(), event["type"], event["object"]))

    def _note(self, seen: Seen) -> None:
        with self._changed:
            self.seen.append(seen)
            self._changed.notify_all()

    def wait(
        self, wanted: Callable[[Seen], bool], since: float = 0.0, timeout_s: float = 60
    ) -> Seen:
        """The first event after `since` for which `wanted` holds. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for seen in self.seen:
                    if seen.at >= since and wanted(seen):
                        return seen
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no such pod event within {timeout_s:.0f} s")

    def added(self, deployment: str, since: float, timeout_s: float = 60) -> Seen:
        """The pod that was written for `deployment` after `since`."""
        return self.wait(
            lambda seen: seen.kind == "ADDED" and _deployment(seen) == deployment, since, timeout_s
        )

    def leaving(self, deployment: str, since: float, timeout_s: float = 60) -> Seen:
        """The event that showed a pod of `deployment` with its deletionTimestamp."""
        return self.wait(
            lambda seen: (
                _deployment(seen) == deployment
                and seen.pod.metadata.deletion_timestamp is not None
                and seen.kind == "MODIFIED"
            ),
            since,
            timeout_s,
        )

    def gone(self, deployment: str, since: float, timeout_s: float = 120) -> Seen:
        """The deletion of a pod of `deployment`."""
        return self.wait(
            lambda seen: seen.kind == "DELETED" and _deployment(seen) == deployment,
            since,
            timeout_s,
        )


def _deployment(seen: Seen) -> str:
    return str(seen.pod.metadata.labels.get("stoker.dev/deployment", ""))
