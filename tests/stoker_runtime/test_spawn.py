"""The engine process: started with its flags, reaped, and its end told in words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker_runtime.spawn import EngineProcess, spawn_engine

PROGRAM = """
import os, socket, sys, time
sock = socket.socket(fileno=int(sys.argv[2]))
sock.sendall(' '.join(sys.argv[3:]).encode() + b' ' + str(os.getpgrp() == os.getpid()).encode())
what = sock.recv(100).decode()
if what == 'sleep': time.sleep(60)
if what.startswith('kill'): os.kill(os.getpid(), int(what[4:]))
if what == 'abort': os.abort()
sys.exit(int(what or 0))
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[EngineProcess]:
    program = tmp_path / "engine.py"
    program.write_text(PROGRAM)
    process = spawn_engine(["--seed", "5"], [str(program)])
    yield process
    process.sock.close()
    process.kill()


def test_it_gets_flags_and_a_socket_and_a_group_of_its_own(process: EngineProcess) -> None:
    assert process.sock.recv(100) == b"--seed 5 True"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (b"0", "ended with exit code 0"),
        (b"7", "ended with exit code 7"),
        (b"kill40", "was killed by signal 40"),
        (b"kill9", "was killed by SIGKILL: most likely out of memory, so give the pod more"),
        (b"abort", "was killed by SIGABRT"),
    ],
)
def test_its_end_is_told_in_words(process: EngineProcess, word: bytes, said: str) -> None:
    process.sock.recv(100)
    process.sock.send(word)
    assert process.sock.recv(100) == b""
    assert process.describe_exit() == said
    assert process.wait(0)


def test_one_that_still_runs_is_killed_and_reaped(process: EngineProcess) -> None:
    process.sock.recv(100)
    process.sock.send(b"sleep")
    assert process.describe_exit() == "closed its socket but still runs"
    process.kill()
    process.kill()
    assert process.wait(0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_it_ends_when_our_end_of_the_socket_closes(process: EngineProcess) -> None:
    process.sock.recv(100)
    process.sock.close()
    began_at = time.monotonic()
    assert process.wait(5)
    assert time.monotonic() - began_at < 2
