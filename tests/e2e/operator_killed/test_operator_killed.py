"""The operator dies by SIGKILL: in mid-wake, and while everything sleeps; no request is lost."""

import time

import pytest

from e2e.stage import specs
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import NAMESPACE, Release

pytestmark = pytest.mark.e2e


def _kill_operators(release: Release) -> None:
    """SIGKILL for every operator process: no lease is released, nothing is written."""
    for pod in release.own_pods("operator"):
        release.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force")


def _leader(release: Release) -> str:
    lease = release.kubectl.get("lease", "stoker-operator", "-n", NAMESPACE)
    return str(lease["spec"]["holderIdentity"])


def _kill_leader(release: Release) -> None:
    pod = next(one for one in release.own_pods("operator") if one in _leader(release))
    release.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force")


def test_a_wake_survives_the_death_of_all_operators(release: Release, pod_watch: PodWatch) -> None:
    spec = specs.stub(release.images.stub, "--stub-start-delay=3s")
    with release.deployed("midwake", spec):
        release.wait_at_zero("midwake")
        began = time.time()
        held = release.asker("midwake").start()
        pod_watch.added("midwake", since=began)
        _kill_operators(release)
        answer = held.result()
        assert not answer.lost, answer.error
        added = [seen for seen in pod_watch.seen if seen.at >= began and seen.kind == "ADDED"]
        assert len({seen.name for seen in added if seen.name.startswith("midwake-")}) == 1
        release.wait_at_zero("midwake")


def test_a_request_at_zero_after_the_leaders_death_waits_for_the_other_operator_only(
    release: Release, figures: Figures
) -> None:
    with release.deployed("atzero", specs.stub(release.images.stub)):
        release.wait_at_zero("atzero")
        waits = []
        for _ in range(3):
            release.kubectl(
                "rollout", "status", "deployment/stoker-operator", "-n", NAMESPACE, "--timeout=60s"
            )
            time.sleep(2)
            _kill_leader(release)
            answer = release.asker("atzero").ask()
            assert not answer.lost, answer.error
            waits.append(answer.ttft_s)
            release.wait_at_zero("atzero")
        figures.note_seconds(
            "SIGKILL of the leading operator at zero, then a request → first token",
            waits,
            "a wake + 3 s",
        )
