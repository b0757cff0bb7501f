"""A whole server whose engine is two processes: it answers, and none of them outlives another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import LlamaShape, write_checkpoint
from support.runtime_server import MODEL, RuntimeServer, run_server, wait_until

FLAGS = ("--dtype", "float32", "--kv-cache-tokens", "4096", "--device", "cpu")
ASKED = {"model": MODEL, "prompt": "Once upon", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_checkpoint(folder / f"m{seed}", LlamaShape(seed=seed)) for seed in (1, 2)]


@pytest.fixture
def server(folders: list[Path], tmp_path: Path) -> Iterator[RuntimeServer]:
    flags = ("--threads", "2", "--tensor-parallel", "2")
    with run_server(folders[0], tmp_path / "log", *FLAGS, *flags) as running:
        running.wait_for("/ready", 200, seconds=100)
        yield running


def ask(server: RuntimeServer) -> str:
    text: str = server.request("POST", "/v1/completions", ASKED).json["choices"][0]["text"]
    return text


def follower_of(server: RuntimeServer) -> int:
    """The only child of the engine process."""
    pid = server.engine_pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_models_move_into_a_standby_of_two_ranks(folders: list[Path], tmp_path: Path) -> None:
    """The first is read by both ranks, the second is in their memory; both sleep and wake."""
    shared = []
    flags = ("--threads", "2", "--tensor-parallel", "2", "--preload", str(folders[1]))
    with run_server(None, tmp_path / "log", "--device", "cpu", *flags) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.state()["phase"] == "Standby", 100)
        for folder, path in zip(folders, ("warm", "resident"), strict=True):
            wanted = {"model": str(folder), "servedName": MODEL, "kvCacheTokens": 4096}
            loaded = server.order("/load", {**wanted, "dtype": "float32"})
            assert (loaded.status, loaded.json["path"]) == (200, path), loaded.body
            shared.append(ask(server))
            for level in (1, 2):
                assert server.order(f"/sleep?level={level}").status == 200
                assert server.order("/wake_up").status == 200
                assert ask(server) == shared[-1]
            assert server.order("/unload").status == 200
    alone = []
    for folder in folders:
        with run_server(folder, tmp_path / "alone", *FLAGS, "--threads", "1") as single:
            single.wait_for("/ready", 200, seconds=100)
            alone.append(ask(single))
    assert shared == alone


def test_a_rank_that_is_killed_takes_the_engine_along_and_is_named(server: RuntimeServer) -> None:
    os.kill(follower_of(server), signal.SIGKILL)
    assert server.process.wait(30) == 1
    assert "EngineCrashed: rank 1 of 2 was killed by SIGKILL" in server.log.read_text()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_its_leader(server: RuntimeServer, end: signal.Signals) -> None:
    """A server that drains, and an engine that is killed."""
    engine, follower = server.engine_pid, follower_of(server)
    os.kill(server.process.pid if end == signal.SIGTERM else engine, end)
    wait_until(lambda: is_gone(follower) and is_gone(engine), 30)


def test_a_model_that_can_not_be_split_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", LlamaShape(intermediate_size=65))
    flags = ("--threads", "2", "--tensor-parallel", "2")
    with run_server(folder, tmp_path / "log", *FLAGS, *flags) as server:
        text = "`tensor_parallel` must divide intermediate_size 65, was 2"
        wait_until(lambda: text in server.log.read_text(), 60)
