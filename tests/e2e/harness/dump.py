"""What a person wants to see when a story failed: written to a folder whose path is printed.

It reads the cluster through kubectl and never fails itself: what cannot be read is noted and
skipped.
"""

import json
import time
from pathlib import Path

from e2e.harness.kubectl import Kubectl, KubectlError
from e2e.harness.report import say

_VIEWS = {
    "pods.txt": ("get", "pods", "-A", "-o", "wide"),
    "pods.yaml": ("get", "pods", "-A", "-o", "yaml"),
    "events.txt": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
    "stoker.yaml": ("get", "stoker", "-A", "-o", "yaml"),
    "children.txt": ("get", "services,endpointslices,jobs,pvc,pv,leases", "-A", "-o", "wide"),
    "nodes.txt": ("describe", "nodes"),
}


def write_dump(kubectl: Kubectl, folder: Path, name: str) -> Path:
    """Write objects, events, node conditions and the logs of every container."""
    target = folder / f"{time.strftime('%H%M%S')}-{name}"
    (target / "logs").mkdir(parents=True, exist_ok=True)
    for file, command in _VIEWS.items():
        (target / file).write_text(_read(kubectl, *command))
    try:
        pods = json.loads(_read(kubectl, "get", "pods", "-A", "-o", "json"))["items"]
    except json.JSONDecodeError:
        pods = []
    for pod in pods:
        _write_logs(kubectl, target / "logs", pod["metadata"]["namespace"], pod)
    say(f"wrote the state of the cluster to {target}")
    return target


def _write_logs(kubectl: Kubectl, folder: Path, namespace: str, pod: dict[str, object]) -> None:
    metadata, status = pod["metadata"], pod["status"]
    assert isinstance(metadata, dict), "every pod has metadata"
    assert isinstance(status, dict), "every pod has a status"
    for container in status.get("containerStatuses", []):
        where = ("logs", "-n", namespace, metadata["name"], "-c", container["name"])
        base = f"{namespace}-{metadata['name']}-{container['name']}"
        (folder / f"{base}.log").write_text(_read(kubectl, *where, "--timestamps"))
        if container.get("restartCount", 0):
            (folder / f"{base}-previous.log").write_text(_read(kubectl, *where, "--previous"))


def _read(kubectl: Kubectl, *command: str) -> str:
    try:
        return kubectl(*command, timeout_s=30)
    except KubectlError as error:
        return f"{error}\n"
