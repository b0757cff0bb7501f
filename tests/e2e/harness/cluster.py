"""A running cluster as fixtures and the demo use it: provider, kubectl, and how it ends.

A cluster that ran before is left running; one that was started here is removed again. It knows no
story.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.kubectl import Kubectl
from e2e.harness.provider import Provider, make_provider
from e2e.harness.settings import Settings
from e2e.harness.toolchain import tool


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up."""

    settings: Settings
    provider: Provider
    kubectl: Kubectl

    @property
    def helm(self) -> Path:
        """The pinned helm program."""
        return tool(self.settings.cache, "helm")


@contextmanager
def running_cluster(settings: Settings) -> Iterator[Cluster]:
    """The cluster of the settings; removed at the end only when it was started here."""
    provider = make_provider(settings)
    was_running = provider.runs()
    try:
        kubeconfig = provider.up()
        yield Cluster(settings, provider, Kubectl(tool(settings.cache, "kubectl"), kubeconfig))
    finally:
        if not was_running and not settings.keep:
            provider.down()
