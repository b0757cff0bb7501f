"""What the engine takes on this machine: seconds until its first token, tokens per second after it.

Knows the wire to the engine process and starts real ones on the 135M random Llama (or on the folder
given as argument); does not know the server. Run by `make bench-runtime`.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from e2e.harness.random_llama import make_random_llama
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import (
    ApiInbox,
    Failed,
    Generate,
    Loaded,
    Outputs,
    Phase,
    Stop,
    ToApi,
    send,
)

NUM_STARTS = 5
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stoker/models/llama-135m"
LOADS = ((1, 32, 64), (8, 32, 64), (1, 1500, 2), (4, 1000, 32))
"""Streams, prompt tokens, answer tokens."""


@dataclass
class Engine:
    """A running engine process."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    started_at: float
    inbox: ApiInbox = field(default_factory=ApiInbox)

    def receive(self) -> list[ToApi]:
        """The next messages; ends the program if there can be none."""
        data = self.socket.recv(1 << 18)
        messages = self.inbox.feed(data)
        failed = [message for message in messages if isinstance(message, Failed)]
        if failed or not data:
            sys.exit(str(failed or "the engine died"))
        return messages

    def stop(self) -> None:
        """End it in good order."""
        send(self.socket, Stop())
        self.process.wait()


def start_engine(model: Path) -> Engine:
    """A new engine process, loading."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "stoker_runtime.engine", "--fd", str(theirs.fileno())]
    with theirs:
        started_at = time.time()
        process = subprocess.Popen(
            [*command, "--model", str(model)], pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL
        )
    return Engine(process, ours, started_at)


def wait_until_loaded(engine: Engine) -> dict[str, float]:
    """Seconds from the start of the process to the end of each phase."""
    phases: dict[str, float] = {}
    while True:
        for message in engine.receive():
            match message:
                case Phase(name, at):
                    phases[name] = at - engine.started_at
                case Loaded():
                    return phases


def measure_load(engine: Engine, streams: int, prompt: int, answer: int) -> tuple[float, float]:
    """Seconds until every stream had its first token, tokens per second from then on."""
    params = SamplingParams(max_tokens=answer, temperature=0.0, ignore_eos=True)
    started = time.monotonic()
    for index in range(streams):
        ids = [(7 * index + i) % 1000 + 3 for i in range(prompt)]
        send(engine.socket, Generate(f"{started}-{index}", ids, params))
    seen, num_tokens, first, running = set(), 0, 0.0, streams
    while running:
        for message in engine.receive():
            for output in message.outputs if isinstance(message, Outputs) else ():
                running -= output.finish_reason is not None
                num_tokens += bool(first)
                seen.add(output.id)
        if not first and len(seen) == streams:
            first = time.monotonic()
    return first - started, num_tokens / (time.monotonic() - first)


def main() -> None:
    """Print a table of starts and a table of loads."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else make_random_llama(CACHE)
    starts = []
    for _ in range(NUM_STARTS):
        engine = start_engine(model)
        starts.append(wait_until_loaded(engine))
        engine.stop()
    print(f"process start to the end of each phase, {NUM_STARTS} starts, weights in page cache")
    for name in starts[0]:
        times = [phases[name] for phases in starts]
        print(f"  {name:12} median {statistics.median(times):.2f} s   least {min(times):.2f} s")
    engine = start_engine(model)
    wait_until_loaded(engine)
    for streams, prompt, answer in LOADS:
        first_s, rate = measure_load(engine, streams, prompt, answer)
        print(
            f"  {streams} streams × {prompt} prompt tokens: "
            f"all began after {first_s:.2f} s, then {rate:.0f} tokens/s"
        )
    engine.stop()


if __name__ == "__main__":
    main()
