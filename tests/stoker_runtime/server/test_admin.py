"""A standby with the real engine: load, answer, sleep, wake, unload, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker_runtime.kernels.panels import Panels, find_functions
from stoker_runtime.model.checkpoint import read_headers
from support.checkpoints import LlamaShape, random_weights, write_checkpoint, write_safetensors
from support.runtime_server import RuntimeServer, run_server, wait_until

COMPLETION = "/v1/completions"
QUESTION = {"model": "tiny", "prompt": "hello world", "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of 0.5 MB; the second is preloaded."""
    folder = tmp_path_factory.mktemp("models")
    return [write_checkpoint(folder / f"m{seed}", LlamaShape(seed=seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def standby(
    models: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RuntimeServer]:
    """A standby that has imported and preloaded all it will."""
    log = tmp_path_factory.mktemp("standby") / "log"
    flags = ("--threads", "1", "--kv-cache-tokens", "4096", "--max-silence-s", "2")
    with run_server(None, log, *flags, "--preload", str(models[1])) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.state()["phase"] == "Standby", 100)
        wait_until(lambda: server.state()["residents"], 30)
        yield server
        server.terminate()
        assert server.process.wait(10) == 0


def load(server: RuntimeServer, model: Path, **order: Any) -> Any:
    return server.order("/load", {"model": str(model), "servedName": "tiny"} | order)


def answer(server: RuntimeServer) -> str:
    asked = server.request("POST", COMPLETION, QUESTION)
    assert asked.status == 200, asked.body
    return str(asked.json["choices"][0]["text"])


def test_a_standby_has_imported_its_tokenizer_before_it_gets_a_model(
    standby: RuntimeServer,
) -> None:
    maps = Path(f"/proc/{standby.process.pid}/maps")
    wait_until(lambda: "tokenizers" in maps.read_text(), 30)


def test_models_come_and_go_and_answer_alike_each_time(
    standby: RuntimeServer, models: list[Path]
) -> None:
    texts: dict[Path, set[str]] = {model: set() for model in models}
    for model, path in [(models[0], "warm"), (models[1], "resident")] * 2:
        loaded = load(standby, model)
        assert (loaded.status, loaded.json["path"]) == (200, path)
        assert standby.request("GET", "/ready").status == 200
        texts[model].add(answer(standby))
        assert standby.order("/unload").json["phase"] == "Standby"
    assert [len(found) for found in texts.values()] == [1, 1]
    assert texts[models[0]] != texts[models[1]]
    assert standby.metric("stoker_runtime_resident_bytes") > 300_000


@pytest.mark.parametrize("level", [1, 2])
def test_a_sleeper_wakes_and_answers_as_before(
    standby: RuntimeServer, models: list[Path], level: int
) -> None:
    load(standby, models[0])
    before = answer(standby)
    assert standby.order(f"/sleep?level={level}").json["phase"] == "Asleep"
    refused = standby.request("POST", COMPLETION, QUESTION)
    assert refused.headers["x-stoker-refused"] == "loading"
    woken = standby.order("/wake_up").json
    assert (woken["phase"], woken["path"]) == ("Ready", "resident" if level == 1 else "warm")
    assert answer(standby) == before
    standby.order("/unload")


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        ({"maxModelLen": 10**6}, 422, "ConfigInvalid"),
        ({"kvCacheTokens": 10**12}, 422, "OutOfMemory"),
        ({"model": "/nowhere"}, 422, "CheckpointNotFound"),
        ({"port": 1}, 400, "invalid_value"),
    ],
    ids=str,
)
def test_what_can_not_be_served_is_refused_and_leaves_a_standby(
    standby: RuntimeServer, models: list[Path], order: dict[str, Any], status: int, code: str
) -> None:
    refused = standby.order("/load", {"model": str(models[0])} | order)
    assert (refused.status, refused.error["code"]) == (status, code)
    assert standby.state()["phase"] == "Standby"


def test_a_damaged_checkpoint_is_refused_by_name(standby: RuntimeServer, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = load(standby, model)
    assert (refused.status, refused.error["code"]) == (422, "CheckpointBroken")
    assert "model.safetensors is truncated" in refused.error["message"]


def test_an_idle_standby_and_an_idle_model_use_no_processor(
    standby: RuntimeServer, models: list[Path]
) -> None:
    for phase in ("Standby", "Ready"):
        if phase == "Ready":
            load(standby, models[0])
            answer(standby)
            wait_until(lambda: standby.metric("stoker_runtime_num_requests_running") == 0)
        before = standby.cpu_s()
        heard = standby.request("GET", "/health").json
        for _ in range(3):
            time.sleep(0.5)
        assert standby.cpu_s() - before < 0.15, phase
        assert heard["engine_heartbeat_age_s"] < 30
    standby.order("/unload")


def test_an_engine_that_stands_still_is_noticed_and_forgiven(
    standby: RuntimeServer, models: list[Path]
) -> None:
    load(standby, models[0])
    os.kill(standby.engine_pid, signal.SIGSTOP)
    try:
        health = standby.wait_for("/health", 503, seconds=30).json
        assert "the engine process was silent for" in health["trouble"]
        assert standby.request("GET", "/ready").status == 503
    finally:
        os.kill(standby.engine_pid, signal.SIGCONT)
    standby.wait_for("/health", 200, seconds=30)
    answer(standby)
    standby.order("/unload")


def find_in_memory(pid: int, needles: list[bytes]) -> Iterator[int]:
    """Which of some bytes occur in the writable memory of a process, by their place in the list."""
    regions = re.findall(
        r"^(\w+)-(\w+) rw.*?^Rss: +(\d+)", Path(f"/proc/{pid}/smaps").read_text(), re.M | re.S
    )
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, resident_kib in regions:
            if int(resident_kib):
                memory.seek(int(start, 16))
                held = memory.read(int(end, 16) - int(start, 16))
                yield from (at for at, needle in enumerate(needles) if needle in held)


def rows_and_panels(model: Path) -> list[bytes]:
    """Some bytes of the embedding as they are stored, and as the native library has them."""
    stored = read_headers(model)["model.embed_tokens.weight"]
    rows = bytearray(stored.file.read_bytes()[stored.offset : stored.offset + stored.num_bytes])
    needles = [bytes(rows[at : at + 48]) for at in range(1 << 10, len(rows), 1 << 14)]
    if find_functions():
        panels = Panels(0, stored.shape[0], stored.num_bytes // stored.shape[0])
        panels.turn(memoryview(rows))
        needles += [bytes(rows[at : at + 48]) for at in range(1 << 10, len(rows), 1 << 14)]
    return needles


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_of_a_model_can_be_read_after_it_went(
    standby: RuntimeServer, models: list[Path], dtype: str
) -> None:
    needles = rows_and_panels(models[0])
    load(standby, models[0], dtype=dtype)
    answer(standby)
    assert next(find_in_memory(standby.engine_pid, needles), None) is not None
    standby.order("/unload")
    assert list(find_in_memory(standby.engine_pid, needles)) == []
    refused = standby.request("POST", COMPLETION, QUESTION)
    assert refused.headers["x-stoker-refused"] == "loading"
    assert standby.request("POST", "/tokenize", {"prompt": "x"}).status == 503


def test_moving_in_and_out_leaves_memory_where_it_was(
    standby: RuntimeServer, models: list[Path]
) -> None:
    def anonymous_bytes() -> int:
        status = Path(f"/proc/{standby.engine_pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+)", status)
        assert found
        return int(found[1]) * 1024

    def turn() -> None:
        assert load(standby, models[0], kvCacheTokens=16384).status == 200
        answer(standby)
        standby.order("/unload")

    turn()
    before = anonymous_bytes()
    for _ in range(4):
        turn()
    assert anonymous_bytes() - before < 8 << 20


def test_a_standby_tells_of_a_damaged_model_before_anybody_asks(
    models: list[Path], tmp_path: Path
) -> None:
    damaged = write_checkpoint(tmp_path / "damaged", LlamaShape())
    tensors = dict(random_weights(LlamaShape()))
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    write_safetensors(damaged / "model.safetensors", tensors)
    flags = ("--threads", "1", "--preload", f"{damaged},{models[0]}")
    with run_server(None, tmp_path / "log", *flags) as server:
        server.wait_for("/health", 200)

        def told() -> str:
            error: str = server.state()["residents"].get(str(damaged), {}).get("error", "")
            return error

        wait_until(lambda: told(), 100)
        assert "its weights are damaged" in told()
        wait_until(lambda: str(models[0]) in server.state()["residents"], 30)
        assert server.state()["residents"][str(models[0])]["bytes"] > 0
