"""The `kind` provider: a cluster in a Docker container, where a Docker engine runs.

It drives the `kind` program, built from its pinned Go module, and needs a machine whose routes
reach the Docker network (Linux). Images come from the Docker engine or from the harness' image
folder.
"""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.kubectl import Kubectl
from e2e.harness.node_port import reach_by_node_port
from e2e.harness.oci import Layout
from e2e.harness.provider import Address
from e2e.harness.report import locked, timed
from e2e.harness.settings import REPOSITORY, HarnessError, Settings
from e2e.harness.toolchain import tool


@dataclass(frozen=True, slots=True)
class KindProvider:
    """One node that is a Docker container."""

    settings: Settings

    def prepare(self) -> None:
        """Build the `kind` program."""
        tool(self.settings.cache, "kind")

    def up(self) -> Path:
        """Create the cluster unless it runs."""
        with locked(self.settings.cache / "clusters" / "kind.lock"):
            if not self.runs():
                self.settings.cluster_dir.mkdir(parents=True, exist_ok=True)
                with timed(f"creating the kind cluster {self.settings.name}"):
                    config = ["--config", str(self._write_config()), "--wait", "180s"]
                    self._kind("create", "cluster", *config, *self._named)
            text = self._kind("get", "kubeconfig", "--name", self.settings.name)
            self.settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            self.settings.kubeconfig.write_text(text)
            self.settings.kubeconfig.chmod(0o600)
        return self.settings.kubeconfig

    def down(self) -> None:
        """Delete the cluster."""
        with locked(self.settings.cache / "clusters" / "kind.lock"):
            self._kind("delete", "cluster", *self._named)

    def runs(self) -> bool:
        """Whether kind lists it."""
        return self.settings.name in self._kind("get", "clusters").split()

    def load_image(self, name: str) -> None:
        """Copy an image into the node: from the image folder, else from the Docker engine."""
        if name in self._images_of_node():
            return
        layout = Layout(self.settings.cache / "images")
        with timed(f"loading {name}"):
            if not layout.has(name):
                self._kind("load", "docker-image", name, "--name", self.settings.name)
                return
            with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
                layout.write_archive(name, archive.file)
                archive.flush()
                self._kind("load", "image-archive", archive.name, "--name", self.settings.name)

    def reach(self, service: str, namespace: str, port: int) -> Address:
        """The node container's address and a node port."""
        return reach_by_node_port(self._kubectl, service, namespace, port)

    @property
    def _named(self) -> list[str]:
        """Which cluster, and a kubeconfig that is not the user's own."""
        return ["--name", self.settings.name, "--kubeconfig", str(self.settings.kubeconfig)]

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(tool(self.settings.cache, "kubectl"), self.settings.kubeconfig)

    def _images_of_node(self) -> list[str]:
        node = f"{self.settings.name}-control-plane"
        return _run(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q"]).split()

    def _write_config(self) -> Path:
        """One node that sees the repository and the volumes under the machine's own paths."""
        self.settings.volumes_dir.mkdir(parents=True, exist_ok=True)
        folders = [str(REPOSITORY), str(self.settings.volumes_dir)]
        mounts = [{"hostPath": folder, "containerPath": folder} for folder in folders]
        config = {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane", "extraMounts": mounts}],
        }
        path = self.settings.cluster_dir / "kind.json"
        path.write_text(json.dumps(config, indent=1))
        return path

    def _kind(self, *args: str) -> str:
        return _run([str(tool(self.settings.cache, "kind")), *args])


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise HarnessError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
