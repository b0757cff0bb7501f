"""What a story may ask of any cluster, and which kind of cluster this machine gets.

Three classes fulfil the protocol: `local.py`, `kind.py`, `current.py`. Stories never ask which it
is.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.harness.settings import ProviderName, Settings


@dataclass(frozen=True, slots=True)
class Address:
    """Where a program on this machine reaches a Service."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as an HTTP URL without a path."""
        return f"http://{self.host}:{self.port}"


class Provider(Protocol):
    """A way to a cluster."""

    def prepare(self) -> None:
        """Build or fetch the programs that `up` needs, which may take minutes the first time."""

    def up(self) -> Path:
        """Make the cluster run, or reuse it when it does; returns its kubeconfig."""

    def down(self) -> None:
        """Remove all that `up` made; does nothing when there is nothing."""

    def runs(self) -> bool:
        """Whether the cluster is there."""

    def load_image(self, name: str) -> None:
        """Make an image of the harness available to pods; quick when the node has it."""

    def reach(self, service: str, namespace: str, port: int) -> Address:
        """Where this machine reaches a port of a Service."""


def choose(settings: Settings) -> ProviderName:
    """The provider asked for, else `kind` where a Docker engine runs, else `local`."""
    if settings.provider:
        return settings.provider
    return "kind" if docker_runs() else "local"


def docker_runs() -> bool:
    """True when the `docker` program reaches an engine."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def make_provider(settings: Settings) -> Provider:
    """The provider for this machine."""
    from e2e.harness.current import CurrentProvider
    from e2e.harness.kind import KindProvider
    from e2e.harness.local import LocalProvider

    match choose(settings):
        case "local":
            return LocalProvider(settings)
        case "kind":
            return KindProvider(settings)
        case "current":
            return CurrentProvider(settings)
