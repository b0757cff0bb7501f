"""A server's life: alive before its model, failing loudly, draining quietly, crashing honestly."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import write_checkpoint
from support.fake_engine import Script
from support.runtime_server import MODEL, RuntimeServer, run_server, wait_until
from support.streams import Stream

COMPLETION = "/v1/completions"
Starter = Callable[..., AbstractContextManager[RuntimeServer]]


@pytest.fixture
def start(checkpoint: Path, tmp_path: Path) -> Starter:
    """Starts servers that log into the test's own folder."""

    def starter(*flags: str, **options: Any) -> AbstractContextManager[RuntimeServer]:
        return run_server(options.pop("model", checkpoint), tmp_path / "log", *flags, **options)

    return starter


def test_it_is_alive_and_lists_its_model_while_the_engine_still_loads(start: Starter) -> None:
    with start(script=Script(load_s=30)) as server:
        assert server.wait_for("/health", 200).json["phase"] == "Starting"
        ready = server.request("GET", "/ready")
        assert (ready.status, ready.json["phase"]) == (503, "Starting")
        assert server.request("GET", "/v1/models").json["data"][0]["id"] == MODEL
        refused = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
        assert refused.status == 503
        assert refused.headers["x-stoker-refused"] == "loading"
        assert refused.headers["retry-after"] == "1"
        assert refused.error["code"] == "loading"
        server.terminate()
        assert server.process.wait(5) == 0


def test_a_broken_checkpoint_leaves_it_alive_with_the_reason(
    start: Starter, tmp_path: Path
) -> None:
    model = write_checkpoint(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with start("--threads", "1", model=model) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.request("GET", "/ready").json["phase"] == "Failed", 60)
        ready = server.request("GET", "/ready")
        assert ready.status == 503
        assert ready.json["reason"] == "CheckpointBroken"
        assert "model.safetensors" in ready.json["message"]
        time.sleep(0.2)  # the engine process ends; that must not look like a crash
        assert server.request("GET", "/health").status == 200
        assert server.request("GET", "/ready").json["reason"] == "CheckpointBroken"


@pytest.mark.parametrize("file", ["", "tokenizer.json"])
def test_a_missing_file_leaves_it_alive_with_the_reason(
    start: Starter, tmp_path: Path, file: str
) -> None:
    model = tmp_path / "model"
    if file:
        (write_checkpoint(model) / file).unlink()
    with start(model=model, script=Script(load_s=1)) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.request("GET", "/ready").json["phase"] == "Failed", 10)
        ready = server.request("GET", "/ready").json
        assert ready["reason"] == "CheckpointNotFound"
        assert str(model / file).rstrip("/") in ready["message"]


def test_what_the_engine_says_is_passed_on(start: Starter) -> None:
    with start(script=Script(fail="OutOfMemory")) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.request("GET", "/ready").json["phase"] == "Failed", 10)
        assert server.request("GET", "/ready").json["reason"] == "OutOfMemory"
        refused = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
        assert refused.status == 503
        assert "OutOfMemory" in refused.error["message"]


def test_a_drain_ends_what_runs_and_refuses_what_is_new(start: Starter) -> None:
    with start(script=Script(step_s=0.02)) as server:
        server.wait_for("/ready", 200)
        stream = Stream(server, max_tokens=40)
        next(stream.lines)
        server.terminate()
        wait_until(lambda: server.request("GET", "/ready").json.get("phase") == "Draining")
        refused = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
        assert refused.status == 503
        assert refused.headers["x-stoker-refused"] == "draining"
        assert refused.headers["connection"] == "close"
        assert server.request("GET", "/health").status == 200
        events = list(stream.lines)
        stream.close()
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(20) == 0


def test_an_idle_server_leaves_at_once(start: Starter) -> None:
    with start(script=Script()) as server:
        server.wait_for("/ready", 200)
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/health")
        idle.getresponse().read()
        server.terminate()
        assert server.process.wait(20) == 0  # long before the drain's deadline
        idle.close()


def test_the_drain_deadline_ends_a_stream_with_an_error(start: Starter) -> None:
    with start("--drain-deadline-s", "1", script=Script(step_s=0.1)) as server:
        server.wait_for("/ready", 200)
        stream = Stream(server, max_tokens=200)
        next(stream.lines)
        server.terminate()
        events = list(stream.lines)
        stream.close()
        assert json.loads(events[-1])["error"]["code"] == "cut_off"
        assert server.process.wait(5) == 1


def test_a_second_ctrl_c_does_not_wait(start: Starter) -> None:
    with start(script=Script(step_s=0.1)) as server:
        server.wait_for("/ready", 200)
        stream = Stream(server, max_tokens=200)
        next(stream.lines)
        for _ in range(2):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert server.process.wait(5) == 1
        stream.close()


def test_draining_by_hand_refuses_and_stays(start: Starter) -> None:
    with start(script=Script()) as server:
        server.wait_for("/ready", 200)
        answer = server.request("POST", "/drain", admin=True)
        assert (answer.status, answer.json) == (202, {"phase": "Draining", "running": 0})
        refused = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
        assert refused.headers["x-stoker-refused"] == "draining"
        assert server.process.poll() is None


def test_a_crash_ends_every_request_with_an_error(start: Starter) -> None:
    with start(script=Script(step_s=0.05, crash_after=5)) as server:
        server.wait_for("/ready", 200)
        body = {"model": MODEL, "prompt": "hello", "max_tokens": 100}
        with ThreadPoolExecutor(1) as pool:
            plain = pool.submit(server.request, "POST", COMPLETION, body)
            stream = Stream(server, max_tokens=100)
            events = list(stream.lines)
            stream.close()
            answer = plain.result()
        assert json.loads(events[-1])["error"]["code"] == "engine_crashed"
        assert (answer.status, answer.error["code"]) == (500, "engine_crashed")
        assert server.process.wait(10) == 1
        assert "EngineCrashed: the engine process ended with exit code 3" in server.log.read_text()


@pytest.mark.parametrize("phase", ["Ready", "Standby"])
def test_an_engine_that_is_killed_ends_the_server(start: Starter, phase: str) -> None:
    options = {"model": None} if phase == "Standby" else {}
    with start(script=Script(), **options) as server:
        wait_until(lambda: phase_of(server) == phase)
        os.kill(server.engine_pid, signal.SIGKILL)
        assert server.process.wait(10) == 1
        assert "was killed by SIGKILL: most likely out of memory" in server.log.read_text()


@pytest.mark.parametrize("script", [Script(), Script(stuck_s=5)])
def test_an_engine_that_hangs_asks_for_a_restart(start: Starter, script: Script) -> None:
    """Stopped as a whole, or alive with a step that never ends."""
    with start("--max-silence-s", "1", "--max-step-s", "4", script=script) as server:
        server.wait_for("/v1/models", 200)
        wait_until(lambda: phase_of(server) == "Ready")
        if not script.stuck_s:
            assert server.wait_for("/health", 200).json["status"] == "ok"
            os.kill(server.engine_pid, signal.SIGSTOP)
        health = server.wait_for("/health", 503, seconds=20).json
        assert health["status"] == "unhealthy"
        assert ("silent for" if not script.stuck_s else "has taken 5 s") in health["trouble"]
        assert server.request("GET", "/ready").status == 503
        assert "unhealthy: " in server.log.read_text()
        if not script.stuck_s:
            os.kill(server.engine_pid, signal.SIGCONT)
            server.wait_for("/health", 200)


def phase_of(server: RuntimeServer) -> str:
    """Where it stands; empty while nobody listens."""
    try:
        return str(server.request("GET", "/health").json["phase"])
    except OSError:
        return ""


def test_an_error_of_one_sequence_is_an_error_of_its_request(start: Starter) -> None:
    with start(script=Script(error="a secret detail")) as server:
        server.wait_for("/ready", 200)
        for stream in (False, True):
            body = {"model": MODEL, "prompt": "x", "stream": stream}
            answer = server.request("POST", COMPLETION, body)
            assert (answer.status, answer.error["code"]) == (500, "engine_error")
            assert "secret" not in answer.error["message"]
        assert server.request("GET", "/health").status == 200
        assert "a secret detail" in server.log.read_text()


def test_a_hang_up_frees_the_sequence(scripted: RuntimeServer) -> None:
    running = 'stoker_runtime_num_requests_running{model_name="tiny"}'
    active = 'stoker_runtime_sequences_active{model_name="tiny"}'
    stream = Stream(scripted, max_tokens=250)
    next(stream.lines)
    assert scripted.metric(active) == 1
    stream.close()
    wait_until(lambda: scripted.metric(active) == 0)
    wait_until(lambda: scripted.metric(running) == 0)


def test_a_hang_up_frees_a_plain_request(start: Starter) -> None:
    with start(script=Script(step_s=0.05)) as server:
        server.wait_for("/ready", 200)
        body = json.dumps({"model": MODEL, "prompt": "x", "n": 3, "max_tokens": 200}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", COMPLETION, body, {"content-type": "application/json"})
        active = 'stoker_runtime_num_requests_running{model_name="tiny"}'
        wait_until(lambda: server.metric(active) == 3)
        connection.close()
        wait_until(lambda: server.metric(active) == 0)
        aborted = 'vllm:request_success_total{model_name="tiny",finished_reason="abort"}'
        assert server.metric(aborted) == 3


def test_a_hang_up_frees_the_real_engine(server: RuntimeServer) -> None:
    active = 'stoker_runtime_num_requests_running{model_name="tiny"}'
    body = json.dumps(
        {"model": MODEL, "prompt": "x", "n": 8, "max_tokens": 500, "ignore_eos": True}
    )
    headers = {"content-type": "application/json", "authorization": "Bearer secret"}
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", COMPLETION, body, headers)
        time.sleep(0.1)
        connection.close()
        wait_until(lambda: server.metric(active) == 0)
    answer = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
    assert answer.status == 200


def test_behind_a_gateway_few_may_wait(start: Starter) -> None:
    environ = {"STOKER_ANNOUNCE_URL": "http://127.0.0.1:9/announce"}
    with start(script=Script(step_s=0.05, slots=4), environ=environ) as server:
        server.wait_for("/ready", 200)
        streams = [Stream(server, max_tokens=100) for _ in range(6)]  # 4 run, 2 wait
        refused = server.request("POST", COMPLETION, {"model": MODEL, "prompt": "x"})
        assert refused.status == 503
        assert refused.headers["x-stoker-refused"] == "full"
        for stream in streams:
            stream.close()
        wait_until(lambda: server.metric("stoker_runtime_sequences_active") == 0)
        body = {"model": MODEL, "prompt": "x", "n": 20, "max_tokens": 1}
        assert server.request("POST", COMPLETION, body).status == 200


def test_a_slow_reader_gets_everything_and_stops_nobody(scripted: RuntimeServer) -> None:
    stream = Stream(scripted, max_tokens=250)
    quick = scripted.request("POST", COMPLETION, {"model": MODEL, "prompt": "a", "max_tokens": 5})
    assert quick.status == 200
    time.sleep(0.5)
    *chunks, done = list(stream.lines)
    stream.close()
    text = "".join(json.loads(chunk)["choices"][0]["text"] for chunk in chunks)
    assert (text, done) == ("hello" * 250, "[DONE]")


def test_a_taken_port_is_named(checkpoint: Path, scripted: RuntimeServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with run_server(checkpoint, log, "--port", str(scripted.port), script=Script()) as server:
        assert server.process.wait(10) == 2
    assert f"can't listen on 127.0.0.1:{scripted.port}" in log.read_text()


def test_a_wrong_flag_is_named(start: Starter, tmp_path: Path) -> None:
    with start("--max-num-seqs", "none", script=Script()) as server:
        assert server.process.wait(10) == 2
    assert "`max_num_seqs`" in (tmp_path / "log").read_text()


def test_requests_in_flight_never_block_each_other(scripted: RuntimeServer) -> None:
    texts: list[str] = []

    def ask(word: str) -> None:
        body = {"model": MODEL, "prompt": word, "max_tokens": 20}
        texts.append(scripted.request("POST", COMPLETION, body).json["choices"][0]["text"])

    threads = [threading.Thread(target=ask, args=(word,)) for word in "abcdefgh" * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == sorted(letter * 20 for letter in "abcdefgh" * 2)
