"""The dangerous moments: many at zero at once, around a scale-down, a gateway that leaves."""

import threading
import time

import pytest

from e2e.stage import specs
from e2e.stage.asks import Ask, finish
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import NAMESPACE, Release

pytestmark = pytest.mark.e2e

_CYCLES, _TOGETHER = 20, 10
_OFFSETS_S = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0)


def test_no_request_is_lost_in_twenty_wakes_of_ten(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    answers: list[Ask] = []
    to_pod_s: list[float] = []
    with release.deployed("storm", specs.stub(release.images.stub, idleTimeout="1s")):
        for _ in range(_CYCLES):
            release.wait_at_zero("storm")
            time.sleep(0.5)
            together = release.asker("storm").ask_together(_TOGETHER)
            began = min(answer.started_at for answer in together)
            to_pod_s.append(pod_watch.added("storm", since=began).at - began)
            answers += together
    lost = [answer.error for answer in answers if answer.lost]
    figures.note(f"{_CYCLES} wakes × {_TOGETHER} requests: lost", str(len(lost)), "0", len(answers))
    figures.note_seconds(
        "arrival → pod object, 0.5 s after a sleep", to_pod_s, "≤ 0.05, p99 ≤ 0.2 s"
    )
    figures.note_seconds("arrival → first token, in the storm", [a.ttft_s for a in answers], "–")
    assert not lost, lost


def test_no_request_is_lost_around_a_scale_down(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    answers = []
    with release.deployed("race", specs.stub(release.images.stub, idleTimeout="1s")):
        for _ in range(2):
            for offset_s in _OFFSETS_S:
                woken = release.asker("race").ask()
                marked = pod_watch.leaving("race", since=woken.ended_at)
                time.sleep(max(0.0, marked.at + offset_s - time.time()))
                answers.append(release.asker("race").ask())
                pod_watch.leaving("race", since=answers[-1].ended_at)
                release.wait_at_zero("race")
    lost = [answer.error for answer in answers if answer.lost]
    words = "requests 0–4 s after the scale-down marked the pod"
    figures.note(f"{words}: lost", f"{len(lost)} of {len(answers)}", "0", len(answers))
    figures.note_seconds(f"{words}: first token", [a.ttft_s for a in answers], "fresh wake + 0.5 s")
    assert not lost, lost


def test_four_models_asked_at_once_do_not_wait_for_each_other(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    names = [f"four-{index}" for index in range(4)]
    stub = specs.stub(release.images.stub, idleTimeout="2s")
    for name in names:
        release.apply(name, stub)
    try:
        for name in names:
            release.wait(name, lambda one: "conditions" in one.get("status", {}), "seen")
            release.wait_at_zero(name)
        askers = [release.asker(name) for name in names]
        began = time.time()
        answers = finish([asker.start() for asker in askers])
        assert not [answer.error for answer in answers if answer.lost]
        to_pod_s = [
            pod_watch.added(name, since=began).at - answer.started_at
            for name, answer in zip(names, answers, strict=True)
        ]
        figures.note_seconds(
            "arrival → pod object, 4 models at once", to_pod_s, "≤ 0.05 s, p99 ≤ 0.2 s"
        )
    finally:
        release.kubectl("delete", "llm", *names, "--wait=true", timeout_s=120)


def test_a_leaving_gateway_answers_what_it_holds(release: Release, figures: Figures) -> None:
    spec = specs.stub(release.images.stub, "--stub-start-delay=4s")
    with release.deployed("leave", spec):
        release.wait_at_zero("leave")
        pending = [release.asker("leave").start() for _ in range(8)]
        time.sleep(1)
        gateways = release.own_pods("gateway")
        release.kubectl("delete", "pod", *gateways, "-n", NAMESPACE, "--wait=false")
        answers = finish(pending)
        lost = [answer.error for answer in answers if answer.lost]
        figures.note("SIGTERM of both gateways that hold 8 requests: lost", str(len(lost)), "0", 8)
        assert not lost, lost
    release.kubectl("rollout", "status", "deployment/stoker-gateway", "-n", NAMESPACE)


def test_requests_go_on_while_gateways_are_replaced(release: Release) -> None:
    """A rollout of the gateway under a steady trickle of requests loses none."""
    with release.deployed("trickle", specs.stub(release.images.stub, minReplicas=1)):
        release.wait("trickle", lambda one: one["status"].get("readyReplicas") == 1, "serving")
        answers: list[Ask] = []
        stop = threading.Event()
        thread = threading.Thread(target=_trickle, args=(release, answers, stop), daemon=True)
        thread.start()
        gateway = ("deployment/stoker-gateway", "-n", NAMESPACE)
        release.kubectl("rollout", "restart", *gateway)
        release.kubectl("rollout", "status", *gateway, "--timeout=120s", timeout_s=130)
        time.sleep(2)
        stop.set()
        thread.join()
        lost = [answer.error for answer in answers if answer.lost]
        assert len(answers) > 10
        assert not lost, lost


def _trickle(release: Release, answers: list[Ask], stop: threading.Event) -> None:
    while not stop.is_set():
        answers.append(release.asker("trickle").ask())
        time.sleep(0.1)
