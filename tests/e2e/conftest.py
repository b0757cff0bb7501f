"""Fixtures of the stories: a bare API server, and a whole cluster that is dumped when a test fails.

They only connect pytest to the harness; what a story needs beyond a cluster it says itself.
"""

from collections.abc import Iterator

import pytest

from e2e.harness.apiserver import ControlPlane, control_plane
from e2e.harness.settings import Settings


@pytest.fixture(scope="session")
def harness_settings() -> Settings:
    """The harness settings from the environment."""
    return Settings.from_env()


@pytest.fixture(scope="session")
def apiserver(harness_settings: Settings) -> Iterator[ControlPlane]:
    """A real kube-apiserver with etcd on loopback: `.kubeconfig` and `.kubectl`; no node."""
    with control_plane(harness_settings.cache) as plane:
        yield plane
