"""The `current` provider: the cluster that the user's kubeconfig points to.

It makes and removes no cluster. Images must be pullable by the cluster: their names come from the
settings, and `load_image` only checks that they were given.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.kubectl import Kubectl
from e2e.harness.node_port import reach_by_node_port
from e2e.harness.provider import Address
from e2e.harness.settings import HarnessError, Settings
from e2e.harness.toolchain import tool


@dataclass(frozen=True, slots=True)
class CurrentProvider:
    """Whatever cluster is there."""

    settings: Settings

    def prepare(self) -> None:
        """Nothing to build."""

    def up(self) -> Path:
        """Check that the cluster answers."""
        self._kubectl("version", "--request-timeout=10s")
        return self._kubeconfig

    def down(self) -> None:
        """The cluster is not ours to remove."""

    def runs(self) -> bool:
        """Always: it was there before us."""
        return True

    def load_image(self, name: str) -> None:
        """The cluster pulls images itself; this only refuses names that nobody can pull."""
        given = (self.settings.image, self.settings.runtime_image, self.settings.stub_image)
        if name not in given:
            raise HarnessError(
                f"the current cluster cannot pull {name}: push the images that `make images` "
                "builds and name them in STOKER_IMAGE, STOKER_RUNTIME_IMAGE, STOKER_STUB_IMAGE"
            )

    def reach(self, service: str, namespace: str, port: int) -> Address:
        """A node's address and a node port."""
        return reach_by_node_port(self._kubectl, service, namespace, port)

    @property
    def _kubeconfig(self) -> Path:
        default = Path.home() / ".kube" / "config"
        return Path(os.environ.get("KUBECONFIG", str(default)))

    @property
    def _kubectl(self) -> Kubectl:
        found = shutil.which("kubectl")
        program = Path(found) if found else tool(self.settings.cache, "kubectl")
        return Kubectl(program, self._kubeconfig)
