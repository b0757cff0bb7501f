"""The engine process as the server starts it: a real child, a real socket, a real model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import (
    Abort,
    ApiInbox,
    Failed,
    Generate,
    Heartbeat,
    Loaded,
    Outputs,
    Phase,
    Stats,
    Stop,
    ToApi,
    send,
)
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import make_engine, run_all, token_ids

GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
ENDLESS = SamplingParams(max_tokens=100_000, temperature=0.0, ignore_eos=True)
PROMPT = [5, 6, 7, 8]
Message = TypeVar("Message", bound=ToApi)


class Child:
    """An engine process and this end of its socket."""

    def __init__(self, *flags: str) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "stoker_runtime.engine", "--fd", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen([*command, *flags], pass_fds=[theirs.fileno()])
        self.socket = ours
        self.socket.settimeout(60)
        self.seen: list[ToApi] = []
        self._inbox = ApiInbox()

    def wait_for(self, kind: type[Message]) -> Message:
        """The next message of that kind; those before it are in `seen`."""
        while True:
            while self.seen:
                message = self.seen.pop(0)
                if isinstance(message, kind):
                    return message
            data = self.socket.recv(1 << 16)
            assert data, "the engine closed the socket"
            self.seen += self._inbox.feed(data)

    def collect(self, id: str) -> list[int]:
        """All tokens of a request."""
        tokens: list[int] = []
        finished = False
        while not finished:
            outputs = [one for one in self.wait_for(Outputs).outputs if one.id == id]
            tokens += token_ids(outputs)
            finished = any(one.finish_reason for one in outputs)
        return tokens

    def cpu_s(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it, whatever it does."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


def start(folder: Path, *flags: str) -> Child:
    return Child("--model", str(folder), "--threads", "1", "--dtype", "float32", *flags)


@pytest.fixture(scope="module")
def child(folder: Path) -> Iterator[Child]:
    started = start(folder)
    yield started
    started.close()


@pytest.fixture(scope="module")
def loaded(child: Child) -> tuple[list[Phase], Loaded]:
    phases = [child.wait_for(Phase) for _ in range(3)]
    return phases, child.wait_for(Loaded)


def test_reports_phases_in_order_then_loaded(loaded: tuple[list[Phase], Loaded]) -> None:
    phases, message = loaded
    assert [phase.name for phase in phases] == ["imports", "weights", "firstToken"]
    assert sorted(phase.at for phase in phases) == [phase.at for phase in phases]
    assert abs(phases[-1].at - time.time()) < 60
    assert (message.slots, message.max_model_len, message.vocab_size) == (32, 512, 320)
    assert message.eos_token_ids == (2, 0)
    assert message.num_kv_blocks * message.block_size == 32 * 512


@pytest.mark.usefixtures("loaded")
def test_answers_what_the_engine_answers(child: Child, folder: Path) -> None:
    expected = run_all(make_engine(folder), [Generate("a", PROMPT, GREEDY)])
    send(child.socket, Generate("a", PROMPT, GREEDY))
    assert child.collect("a") == token_ids(expected["a"])


@pytest.mark.usefixtures("loaded")
def test_an_abort_arrives_between_steps(child: Child) -> None:
    send(child.socket, Generate("long", PROMPT, SamplingParams(max_tokens=500, ignore_eos=True)))
    first = child.wait_for(Outputs).outputs[0]
    assert (first.id, first.finish_reason) == ("long", None)
    send(child.socket, Abort(["long"]))
    num_tokens = len(child.collect("long"))
    assert num_tokens < 400


@pytest.mark.usefixtures("loaded")
def test_idle_uses_no_processor_and_still_beats(child: Child) -> None:
    child.wait_for(Heartbeat)
    before = child.cpu_s()
    beats = [child.wait_for(Heartbeat).at for _ in range(2)]
    assert 0.8 < beats[1] - beats[0] < 5
    assert child.cpu_s() - before <= 0.04


@pytest.mark.usefixtures("loaded")
def test_stats_follow_the_work(child: Child) -> None:
    send(child.socket, Generate("s", PROMPT, GREEDY))
    child.collect("s")
    while True:
        stats = child.wait_for(Stats)
        if stats.running == 0 and stats.generated_tokens >= 8:
            break
    assert stats.kv_blocks_used == 0


def test_stop_ends_it_in_good_order(folder: Path) -> None:
    child = start(folder)
    child.wait_for(Loaded)
    send(child.socket, Generate("a", PROMPT, ENDLESS))
    child.wait_for(Outputs)
    os.kill(child.process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group; the parent decides
    send(child.socket, Stop())
    assert child.process.wait(timeout=20) == 0
    child.close()


def test_a_dead_parent_ends_it_even_while_it_loads(folder: Path) -> None:
    child = start(folder)
    child.socket.close()
    assert child.process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("flags", "reason", "message"),
    [
        (["--model", "/nowhere"], "CheckpointNotFound", "/nowhere does not exist"),
        (["--max-num-seqs", "0"], "ConfigInvalid", "`max_num_seqs` must be ≥ 1, was 0"),
        (["--max-model-len", "513"], "ConfigInvalid", "was 513 > 512"),
        (["--kv-cache-tokens", "999999999999"], "OutOfMemory", "MiB are available"),
        (["--fast"], "ConfigInvalid", "unknown flag '--fast'"),
    ],
    ids=lambda value: str(value),
)
def test_a_bad_start_is_reported_at_once(
    folder: Path, flags: list[str], reason: str, message: str
) -> None:
    started = time.monotonic()
    child = start(folder, *flags)
    failed = child.wait_for(Failed)
    assert failed.reason == reason
    assert message in failed.message
    assert child.process.wait(timeout=20) == 1
    assert time.monotonic() - started < 20
    child.close()


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    shape = LlamaShape(extra_config={"architectures": ["MambaForCausalLM"]})
    child = start(write_checkpoint(tmp_path, shape))
    failed = child.wait_for(Failed)
    assert failed.reason == "ArchitectureUnsupported"
    assert "'MambaForCausalLM' is not supported; supported are LlamaForCausalLM" in failed.message
    child.close()
