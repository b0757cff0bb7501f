"""The servers that tests of this room share: one with the real engine, one with a scripted one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import LlamaShape, write_checkpoint
from support.fake_engine import Script
from support.runtime_server import RuntimeServer, run_server


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), LlamaShape())


@pytest.fixture(scope="session")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """The real server with the real engine, ready, with a key."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = ("--threads", "1", "--max-num-seqs", "8", "--kv-cache-tokens", "4096")
    with run_server(checkpoint, log, *flags, environ={"STOKER_TOKEN": "secret"}) as running:
        running.wait_for("/ready", 200, seconds=100)
        yield running


@pytest.fixture(scope="session")
def scripted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """A server whose engine repeats the prompt, 4 sequences at once, 1 ms a step."""
    log = tmp_path_factory.mktemp("scripted") / "log"
    with run_server(checkpoint, log, script=Script(step_s=0.001)) as running:
        running.wait_for("/ready", 200)
        yield running
