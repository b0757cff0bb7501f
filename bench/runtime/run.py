"""What the engine takes on this machine, with weights as stored, in 8 bits and in 4, side by side.

Knows the wire to the engine process and starts real ones on the 135M random Llama (or on the folder
given as argument); does not know the server. Run by `make bench-runtime`. The variants take turns,
in each round in the other order, so that what else the machine does meets all of them alike.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
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

NUM_ROUNDS = 3
VARIANTS = {"as stored": (), "int8": ("--quantization", "int8"), "int4": ("--quantization", "int4")}
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stoker/models/llama-135m"


@dataclass(frozen=True)
class Load:
    """Requests that arrive at once; their first tokens may be the same."""

    streams: int
    prompt: int
    answer: int
    shared: int = 0


LOADS = {
    "1 stream": Load(1, 64, 48),
    "8 streams": Load(8, 64, 32),
    "32 streams": Load(32, 128, 24),
    "16 with a shared prefix": Load(16, 448, 24, shared=384),
    "prompt of 1500": Load(1, 1500, 2),
}


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


def start_engine(model: Path | None, flags: Sequence[str]) -> Engine:
    """A new engine process, loading; without a model it will be a standby."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "stoker_runtime.engine", "--fd", str(theirs.fileno()), *flags]
    with theirs:
        started_at = time.time()
        process = subprocess.Popen(
            command if model is None else [*command, "--model", str(model)],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.DEVNULL,
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


def measure_load(engine: Engine, load: Load) -> tuple[float, float]:
    """What `measure_requests` says of a load."""
    params = SamplingParams(max_tokens=load.answer, temperature=0.0, ignore_eos=True)
    prompts = []
    for index in range(load.streams):
        offsets = [0 if i < load.shared else 7 * (index + 1) for i in range(load.prompt)]
        prompts.append([(offset + 13 * i) % 1000 + 3 for i, offset in enumerate(offsets)])
    return measure_requests(engine, [(ids, params) for ids in prompts])


def measure_requests(
    engine: Engine, requests: Sequence[tuple[list[int], SamplingParams]]
) -> tuple[float, float]:
    """Seconds until all, sent at once, had a first token; tokens per second until all ended."""
    started = time.monotonic()
    for index, (ids, params) in enumerate(requests):
        send(engine.socket, Generate(f"{started}-{index}", ids, params))
    seen, num_tokens, first, running = set(), 0, 0.0, len(requests)
    while running:
        for message in engine.receive():
            for output in message.outputs if isinstance(message, Outputs) else ():
                running -= output.finish_reason is not None
                num_tokens += len(output.token_ids)
                seen.add(output.id)
        if not first and len(seen) == len(requests):
            first = time.monotonic()
    return first - started, num_tokens / (time.monotonic() - started)


def peak_bytes(engine: Engine) -> int:
    """The most memory that the engine process ever held."""
    lines = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def measure_variant(model: Path, flags: Sequence[str]) -> dict[str, float]:
    """One engine from its start to its end: a figure by name."""
    engine = start_engine(model, flags)
    phases = wait_until_loaded(engine)
    figures = {"first token s": max(phases.values())}
    for name, load in LOADS.items():
        first_s, rate = measure_load(engine, load)
        figures |= {f"{name}: all began s": first_s, f"{name}: tokens/s": rate}
    figures["peak MB"] = peak_bytes(engine) / 1e6
    engine.stop()
    return figures


def main() -> None:
    """Print medians of the rounds, a line per figure, a column per variant."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else make_random_llama(CACHE)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for number in range(NUM_ROUNDS):
        names = list(VARIANTS) if number % 2 == 0 else list(reversed(VARIANTS))
        for name in names:
            rounds[name].append(measure_variant(model, VARIANTS[name]))
    print(f"{'median of ' + str(NUM_ROUNDS):36}" + "".join(f"{name:>12}" for name in VARIANTS))
    for figure in rounds["as stored"][0]:
        medians = [statistics.median(one[figure] for one in rounds[name]) for name in VARIANTS]
        print(f"{figure:36}" + "".join(f"{median:12.2f}" for median in medians))


if __name__ == "__main__":
    main()
