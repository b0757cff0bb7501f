"""What a standby saves: from the order to the first token, against a fresh start.

Knows the server's flags, its admin port and one completion; does not know the wire. Starts real
servers on the 135M random Llama (or on the folder given as argument), alternately: a fresh one, and
`/load` on a standby that has to read the weights, or holds them. Prints medians and ratios.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from run import CACHE

from e2e.harness.random_llama import make_random_llama
from support.runtime_server import RuntimeServer, run_server, wait_until

ROUNDS = 5
PATHS = ("fresh", "warm", "resident")
TOKEN = {"prompt": "hello", "max_tokens": 1, "temperature": 0}


def start(model: Path | None, *flags: str) -> AbstractContextManager[RuntimeServer]:
    """A server process pair; its log is thrown away."""
    return run_server(model, Path(tempfile.gettempdir()) / "stoker-load.log", *flags)


def ask_until_answered(server: RuntimeServer, name: str) -> None:
    """One token, as a client waits for it: asked again until it is there."""

    def asked() -> bool:
        try:
            answer = server.request("POST", "/v1/completions", TOKEN | {"model": name})
        except OSError:
            return False
        return answer.status == 200

    wait_until(asked, 600)


def measure_fresh(model: Path) -> tuple[float, dict[str, float]]:
    """Seconds from the start of the process to an answer, and those of the phases."""
    began_at = time.monotonic()
    with start(model) as server:
        ask_until_answered(server, "tiny")
        seconds = time.monotonic() - began_at
        return seconds, server.state()["seconds"]


def measure_load(model: Path, *flags: str) -> tuple[float, dict[str, float]]:
    """Seconds from the order to an answer, and those of the phases."""
    with start(None, *flags) as server:
        server.wait_for("/health", 200)
        wait_until(lambda: server.state()["phase"] == "Standby", 600)
        wait_until(lambda: server.state()["residents"] or not flags, 600)
        began_at = time.monotonic()
        answer = server.order("/load", {"model": str(model), "servedName": "tiny"})
        assert answer.status == 200, answer.body
        ask_until_answered(server, "tiny")
        return time.monotonic() - began_at, answer.json["seconds"]


def main() -> None:
    """Print a line per path."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else make_random_llama(CACHE)
    measured: dict[str, list[tuple[float, dict[str, float]]]] = {path: [] for path in PATHS}
    for _ in range(ROUNDS):
        measured["fresh"].append(measure_fresh(model))
        measured["warm"].append(measure_load(model))
        measured["resident"].append(measure_load(model, "--preload", str(model)))
    fresh = statistics.median(seconds for seconds, _ in measured["fresh"])
    print(f"start or order → first token over HTTP, {ROUNDS} rounds, weights in page cache")
    for path, rounds in measured.items():
        seconds = statistics.median(seconds for seconds, _ in rounds)
        phases = ", ".join(
            f"{name} {statistics.median(phases[name] for _, phases in rounds):.3f}"
            for name in rounds[0][1]
        )
        print(f"  {path:9} {seconds:6.3f} s   {seconds / fresh:5.3f} of fresh   ({phases})")


if __name__ == "__main__":
    main()
