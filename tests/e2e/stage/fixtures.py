"""Fixtures of the stories: the release in its cluster, a watch on pods, figures, a volume.

They only connect pytest to `bring_up`; a story that failed is dumped by the harness.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.harness.cluster import Cluster
from e2e.stage.bring_up import Stage, bring_up
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import Release

_FIGURES = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def stage(cluster: Cluster) -> Stage:
    """The cluster with the chart installed, made once for all stories."""
    return bring_up(cluster)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where stories note what they measured; `show_figures` tables it at the end."""
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


def show_figures(reporter: pytest.TerminalReporter) -> None:
    """Print the table of what was measured, when something was."""
    collected = reporter.config.stash.get(_FIGURES, None)
    if collected is not None:
        reporter.section("figures")
        reporter.write_line(collected.table())


@pytest.fixture
def release(stage: Stage) -> Release:
    """The installed chart."""
    return stage.release


@pytest.fixture
def helm_program(stage: Stage) -> str:
    """The `helm` program that installed the chart."""
    return str(stage.cluster.helm)


@pytest.fixture
def pod_watch(stage: Stage) -> Iterator[PodWatch]:
    """A watch on the runtime pods, open before the story begins."""
    with PodWatch(stage.cluster.kubectl.kubeconfig) as watching:
        yield watching


@pytest.fixture
def volume(stage: Stage) -> Callable[[str], Path]:
    """Where a model folder lies, by name, for pods that use the stories' claim."""
    return stage.volume
