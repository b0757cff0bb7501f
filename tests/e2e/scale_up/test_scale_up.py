"""Load brings replicas, its end takes them away, and no stream is cut on the way."""

import time

import pytest

from e2e.stage import specs
from e2e.stage.asks import finish
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e


def test_replicas_follow_the_load_up_and_back_to_zero(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    spec = specs.stub(
        release.images.stub, "--stub-token-delay=150ms", slots=2, maxReplicas=3, targetQueueDepth=2
    )
    with release.deployed("load", spec):
        release.wait_at_zero("load")
        began = time.time()
        asker = release.asker("load")
        pending = [asker.start() for _ in range(24)]
        release.wait("load", lambda one: one["status"].get("readyReplicas") == 3, "at 3 replicas")
        answers = finish(pending)
        lost = [answer.error for answer in answers if answer.lost]
        assert not lost, lost
        names = {seen.name for seen in pod_watch.seen if seen.at >= began and seen.kind == "ADDED"}
        made = {name for name in names if name.startswith("load-")}
        assert len(made) == 3, "a burst must not start more than maxReplicas, whatever it waits"
        release.wait_at_zero("load")
        figures.note("24 requests at zero, 2 slots a replica, maxReplicas 3: lost", "0", "0", 24)


def test_a_scale_down_cuts_no_running_stream(release: Release, figures: Figures) -> None:
    spec = specs.stub(release.images.stub, "--stub-token-delay=700ms", slots=1, maxReplicas=2)
    with release.deployed("shrink", {**spec, "scaling": {**spec["scaling"], "minReplicas": 2}}):
        release.wait("shrink", lambda one: one["status"].get("readyReplicas") == 2, "at 2 replicas")
        running = [release.asker("shrink").start() for _ in range(2)]
        time.sleep(2)
        release.apply("shrink", {**spec, "scaling": {"idleTimeout": "1s", "maxReplicas": 1}})
        answers = finish(running)
        assert [answer.finish_reason for answer in answers] == ["stop", "stop"], answers
        release.wait("shrink", lambda one: one["status"].get("replicas", 0) <= 1, "at 1 replica")
        figures.note("streams cut by a scale-down 2 → 1 while both run", "0 of 2", "0", 2)
