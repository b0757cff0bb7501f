"""Transitions of a standby with a scripted engine: one at a time, repeated, refused, in a hurry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stoker_runtime.wire import Failed
from support.checkpoints import write_checkpoint
from support.fake_engine import Script
from support.runtime_server import RuntimeServer, run_server, wait_until
from support.streams import Stream

COMPLETION = "/v1/completions"


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """A standby whose engine takes 0.3 s to load and 10 ms a step."""
    log = tmp_path_factory.mktemp("standby") / "log"
    script = Script(load_s=0.3, step_s=0.01)
    with run_server(None, log, script=script, environ={"STOKER_TOKEN": "pool"}) as server:
        server.wait_for("/health", 200)
        yield server


@pytest.fixture(autouse=True)
def vacant(standby: RuntimeServer) -> None:
    """Every test begins without a model."""
    wait_until(lambda: standby.state()["phase"] != "Starting")
    assert wait_until(lambda: standby.order("/unload").status == 200)


def load(server: RuntimeServer, model: Path, **order: Any) -> Any:
    return server.order("/load", {"model": str(model), "servedName": "tiny"} | order)


def test_without_a_model_everything_is_refused_before_any_work(standby: RuntimeServer) -> None:
    assert standby.request("GET", "/v1/models").json["data"] == []
    assert standby.request("GET", "/v1/models/").status == 404
    for path in (COMPLETION, "/v1/chat/completions"):
        answer = standby.request("POST", path, {"model": "tiny", "prompt": "x"})
        assert (answer.status, answer.headers["x-stoker-refused"]) == (503, "loading")
        assert answer.error["code"] == "loading"
    assert standby.request("GET", "/ready").status == 503
    assert standby.request("GET", "/health").status == 200


def test_orders_need_the_key_of_the_standby(standby: RuntimeServer) -> None:
    for path in ("/load", "/unload", "/sleep", "/wake_up", "/drain"):
        answer = standby.request(
            "POST", path, admin=True, headers={"authorization": "Bearer wrong"}
        )
        assert answer.status == 401
        assert standby.request("POST", path).status == 404  # not on the public port


def test_the_model_brings_its_own_key(standby: RuntimeServer, checkpoint: Path) -> None:
    assert load(standby, checkpoint, token="theirs").status == 200
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
    assert standby.request("POST", COMPLETION, body).status == 401
    theirs = {"authorization": "Bearer theirs"}
    assert standby.request("POST", COMPLETION, body, headers=theirs).status == 200
    assert standby.request("GET", "/state", admin=True, headers=theirs).status == 401
    assert standby.order("/unload").json["phase"] == "Standby"
    assert standby.request("GET", "/v1/models").status == 200


def test_a_load_that_is_repeated_is_the_same_load(standby: RuntimeServer, checkpoint: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load, standby, checkpoint) for _ in range(3)]
        answers = [one.result() for one in loads]
    answers.append(load(standby, checkpoint))
    assert [answer.status for answer in answers] == [200] * 4
    assert answers[0].json["phase"] == "Ready"
    assert answers[0].json["path"] == "warm"
    assert list(answers[0].json["seconds"]) == ["imports", "weights", "firstToken"]


def test_another_order_has_to_wait(standby: RuntimeServer, checkpoint: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load, standby, checkpoint)
        wait_until(lambda: standby.state()["phase"] == "Loading")
        for path in ("/unload", "/sleep", "/wake_up", "/drain"):
            answer = standby.order(path)
            assert (answer.status, answer.error["code"]) == (409, "conflict")
            assert "/load runs" in answer.error["message"]
        assert load(standby, checkpoint, maxNumSeqs=2).status == 409
        body = {"model": "tiny", "prompt": "x"}
        refused = standby.request("POST", COMPLETION, body)
        assert refused.headers["x-stoker-refused"] == "loading"
        assert running.result().status == 200
    answer = load(standby, checkpoint, maxNumSeqs=2)
    assert answer.status == 409
    assert "the pod is Ready. Call /unload first" in answer.error["message"]


def test_a_load_goes_on_when_its_caller_hangs_up(standby: RuntimeServer, checkpoint: Path) -> None:
    connection = standby.open("POST", "/load", {"model": str(checkpoint)}, admin=True)
    wait_until(lambda: standby.state()["phase"] == "Loading")
    connection.close()
    wait_until(lambda: standby.state()["phase"] == "Ready")


def test_what_runs_ends_before_the_model_goes(standby: RuntimeServer, checkpoint: Path) -> None:
    load(standby, checkpoint)
    stream = Stream(standby, max_tokens=30)
    next(stream.lines)
    answer = standby.order("/unload")
    assert (answer.status, answer.json["phase"], answer.json["running"]) == (200, "Standby", 0)
    events = list(stream.lines)
    stream.close()
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_a_drained_model_can_go_and_another_come(standby: RuntimeServer, checkpoint: Path) -> None:
    load(standby, checkpoint)
    for _ in range(2):
        answer = standby.order("/drain")
        assert (answer.status, answer.json) == (202, {"phase": "Draining", "running": 0})
    assert load(standby, checkpoint).status == 409
    assert standby.order("/unload").status == 200
    assert standby.order("/drain").json == {"phase": "Standby", "running": 0}
    assert load(standby, checkpoint, servedName="other").json["model"] == "other"


def test_counts_of_a_model_go_with_it(standby: RuntimeServer, checkpoint: Path) -> None:
    load(standby, checkpoint)
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
    assert standby.request("POST", COMPLETION, body).status == 200
    ended = 'vllm:request_success_total{{model_name="{}",finished_reason="length"}}'
    assert standby.metric(ended.format("tiny")) == 1
    standby.order("/unload")
    assert "tiny" not in standby.request("GET", "/metrics").body.decode()
    load(standby, checkpoint, servedName="next")
    assert standby.metric(ended.format("next")) == 0


def test_sleep_and_wake_are_safe_to_repeat(standby: RuntimeServer, checkpoint: Path) -> None:
    assert standby.order("/sleep").status == 409
    assert standby.order("/wake_up").status == 409
    load(standby, checkpoint)
    assert standby.order("/wake_up").json["phase"] == "Ready"
    for path, level in (("/sleep", 1), ("/sleep?level=1", 1), ("/sleep?level=2", 2), ("/sleep", 2)):
        answer = standby.order(path)
        assert (answer.status, answer.json["phase"], answer.json["sleepLevel"]) == (
            200,
            "Asleep",
            level,
        )
        asleep = standby.request("GET", "/is_sleeping", admin=True).json
        assert asleep == {"is_sleeping": True, "level": level}
    refused = standby.request("POST", COMPLETION, {"model": "tiny", "prompt": "x"})
    assert (refused.status, refused.headers["x-stoker-refused"]) == (503, "loading")
    for _ in range(2):
        assert standby.order("/wake_up").json["phase"] == "Ready"
    assert not standby.request("GET", "/is_sleeping", admin=True).json["is_sleeping"]


@pytest.mark.parametrize("level", ["0", "3", "x", ""])
def test_there_are_two_depths_of_sleep(standby: RuntimeServer, level: str) -> None:
    answer = standby.order(f"/sleep?level={level}")
    if level:
        assert (answer.status, answer.error["param"]) == (400, "level")
    else:
        assert answer.status == 409


def test_a_sleeping_model_can_go(standby: RuntimeServer, checkpoint: Path) -> None:
    load(standby, checkpoint)
    standby.order("/sleep")
    assert standby.order("/unload").json["phase"] == "Standby"
    assert standby.state()["sleepLevel"] == 0


@pytest.mark.parametrize("file", ["", "tokenizer.json"])
def test_a_model_without_texts_is_refused_and_leaves_a_standby(
    standby: RuntimeServer, tmp_path: Path, file: str
) -> None:
    model = tmp_path / "model"
    if file:
        (write_checkpoint(model) / file).unlink()
    answer = load(standby, model)
    assert (answer.status, answer.error["code"]) == (422, "CheckpointNotFound")
    assert str(model) in answer.error["message"]
    assert standby.state()["phase"] == "Standby"


def test_a_model_that_the_engine_refuses_leaves_a_standby(checkpoint: Path, tmp_path: Path) -> None:
    with run_server(None, tmp_path / "log", script=Script(fail="OutOfMemory")) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.state()["phase"] == "Standby")
        for _ in range(2):
            answer = load(server, checkpoint)
            assert (answer.status, answer.error["code"]) == (422, Failed("OutOfMemory", "").reason)
            assert server.state()["phase"] == "Standby"
        assert server.process.poll() is None


def test_sigterm_during_a_load_ends_it(checkpoint: Path, tmp_path: Path) -> None:
    with run_server(None, tmp_path / "log", script=Script(load_s=0.5)) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.state()["phase"] == "Standby")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(load, server, checkpoint)
            wait_until(lambda: server.state()["phase"] == "Loading")
            server.terminate()
            answer = running.result()
        assert (answer.status, answer.headers["x-stoker-refused"]) == (503, "draining")
        assert server.process.wait(10) == 0


def test_a_pod_that_was_started_with_a_model_can_change_it(
    checkpoint: Path, tmp_path: Path
) -> None:
    with run_server(checkpoint, tmp_path / "log", script=Script()) as server:
        server.wait_for("/ready", 200)
        assert server.state()["path"] == "fresh"
        assert server.order("/unload").json["phase"] == "Standby"
        assert load(server, checkpoint, servedName="new").json["model"] == "new"
        asked_at = time.monotonic()
        assert load(server, checkpoint, servedName="new").status == 200
        assert time.monotonic() - asked_at < 5
