"""A newcomer's story: install, apply, ask a model at zero, read a streamed answer, see it sleep."""

import subprocess
import time

import openai
import pytest

from e2e.stage import specs
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import NAMESPACE, Release

pytestmark = pytest.mark.e2e

_PHASES = ["decided", "scheduled", "container", "imports", "weights", "firstToken"]


def test_a_sleeping_model_wakes_answers_and_sleeps_again(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    with release.deployed("chat", specs.tiny_chat()):
        release.wait_at_zero("chat")
        asleep = release.condition("chat", "Ready")
        assert (asleep["status"], asleep["reason"]) == ("True", "ScaledToZero")
        answer = release.asker("chat", max_tokens=64).ask("What is 27 + 15?")
        assert not answer.lost, answer
        assert "42" in answer.text
        figures.note_seconds("arrival → first token, tiny-chat, fresh pod", [answer.ttft_s], "–")
        _check_status_of_the_wake(release)
        leaving = pod_watch.leaving("chat", since=answer.ended_at)
        idle_s = leaving.at - answer.ended_at
        assert idle_s >= 2.9, "deleted before the idle timeout of 3 s"
        figures.note_seconds("last answer → scaled down (idleTimeout 3 s)", [idle_s], "3 s")
        release.wait_at_zero("chat")


def _check_status_of_the_wake(release: Release) -> None:
    found = release.wait("chat", lambda one: "lastColdStart" in one["status"], "timed", 10)
    cold = found["status"]["lastColdStart"]
    assert cold["path"] == "fresh"
    assert set(_PHASES) <= set(cold["phases"]), cold
    assert cold["total"] == pytest.approx(sum(cold["phases"].values()), abs=0.05)
    scaling = found["status"]["scaling"]
    assert scaling["reason"]
    assert scaling["message"]


def test_pods_of_a_model_are_closed_by_a_policy_that_goes_with_it(release: Release) -> None:
    """The local node's network does not enforce it; that it may be written, and is collected."""
    with release.deployed("closed", specs.tiny_chat()):
        policy = release.kubectl.get("networkpolicy", "closed-runtime")
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    deadline = time.monotonic() + 30
    while "closed-runtime" in release.kubectl("get", "networkpolicy", "-o", "name"):
        assert time.monotonic() < deadline, "the policy outlives its deployment"
        time.sleep(0.2)


def test_sleeping_models_are_listed_and_unknown_ones_refused(release: Release) -> None:
    with release.deployed("listed", specs.tiny_chat()):
        client = release.asker("listed").client
        deadline = time.monotonic() + 10
        while "listed" not in [model.id for model in client.models.list()]:
            assert time.monotonic() < deadline, "a sleeping model is not listed"
            time.sleep(0.1)
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(
                model="nobody", messages=[{"role": "user", "content": ""}]
            )
        assert refused.value.code == "model_not_found"


def test_a_client_without_a_key_is_refused(release: Release) -> None:
    client = openai.OpenAI(base_url=release.url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_kubectl_shows_state_reason_and_address(release: Release) -> None:
    with release.deployed("shown", specs.tiny_chat()):
        release.wait_at_zero("shown")
        header, row = release.kubectl("get", "llm", "shown").splitlines()
        assert header.split()[:4] == ["NAME", "READY", "REASON", "REPLICAS"]
        assert row.split()[:4] == ["shown", "True", "ScaledToZero", "0"]


def test_nothing_is_written_while_nothing_happens(release: Release, figures: Figures) -> None:
    with release.deployed("quiet", specs.tiny_chat()):
        release.wait_at_zero("quiet")
        time.sleep(3)
        before = release.resource_versions()
        time.sleep(10)
        after = release.resource_versions()
        assert before == after
        figures.note("writes in 10 idle seconds (lease renewals apart)", "0", "0")


def test_helm_test_passes(release: Release, helm_program: str) -> None:
    command = [helm_program, "test", "stoker", "-n", NAMESPACE, "--timeout", "120s"]
    result = subprocess.run(
        command, env=release.kubectl.env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
