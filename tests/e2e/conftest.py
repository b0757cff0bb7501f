"""Fixtures of the stories: a bare API server, and a whole cluster that is dumped when a test fails.

They only connect pytest to the harness; what a story needs beyond a cluster it says itself.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.apiserver import ControlPlane, control_plane
from e2e.harness.cluster import Cluster, running_cluster
from e2e.harness.dump import write_dump
from e2e.harness.settings import Settings
from e2e.stage.fixtures import figures as figures
from e2e.stage.fixtures import helm_program as helm_program
from e2e.stage.fixtures import pod_watch as pod_watch
from e2e.stage.fixtures import release as release
from e2e.stage.fixtures import show_figures
from e2e.stage.fixtures import stage as stage
from e2e.stage.fixtures import volume as volume

_CLUSTER = pytest.StashKey[Cluster]()


@pytest.fixture(scope="session")
def harness_settings() -> Settings:
    """The harness settings from the environment."""
    return Settings.from_env()


@pytest.fixture(scope="session")
def apiserver(harness_settings: Settings) -> Iterator[ControlPlane]:
    """A real kube-apiserver with etcd on loopback: `.kubeconfig` and `.kubectl`; no node."""
    with control_plane(harness_settings.cache) as plane:
        yield plane


@pytest.fixture(scope="session")
def cluster(harness_settings: Settings, pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A real cluster with a node; one that ran before is reused and left running."""
    with running_cluster(harness_settings) as found:
        pytestconfig.stash[_CLUSTER] = found
        yield found
        del pytestconfig.stash[_CLUSTER]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Write the cluster's state to a folder while it is still what the failed test left."""
    report = yield
    found = item.config.stash.get(_CLUSTER, None)
    if report.failed and found:
        folder = write_dump(found.kubectl, found.settings.cache / "dumps", item.name)
        report.sections.append(("cluster", f"state written to {folder}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of the stories, under their results."""
    show_figures(terminalreporter)
