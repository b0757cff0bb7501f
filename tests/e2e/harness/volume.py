"""A folder of this machine as a volume of the cluster, for models named `pvc://claim/path`.

It makes manifests only. The folder must lie below `Settings.volumes_dir` or the repository, which
every local provider shows to its node at the same path.
"""

from pathlib import Path
from typing import Any


def folder_volume(
    claim: str, folder: Path, *, namespace: str = "default", size: str = "10Gi"
) -> list[dict[str, Any]]:
    """A PersistentVolume on `folder` and the claim bound to it, readable by many pods."""
    access = ["ReadOnlyMany"]
    volume = f"{namespace}-{claim}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": access,
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"name": claim, "namespace": namespace},
                "hostPath": {"path": str(folder), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                "accessModes": access,
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": {"storage": size}},
            },
        },
    ]
