"""What the gateway costs: rounds of direct and proxied requests in turn, at 1, 32 and 128 streams.

Starts a Go stub and load generator (`main.go`) and a real gateway with two workers over a fake API
server, all on this machine. Prints one row per concurrency; `make bench-gateway` calls it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from stoker_gateway.settings import Settings
from support.gateway_process import free_ports, supervise

HERE = Path(__file__).parent
PATH = "/v1/chat/completions"


def build(folder: str) -> str:
    """Compile the Go program."""
    binary = f"{folder}/gateway-bench"
    subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE, check=True)
    return binary


def start_gateway(settings: Settings) -> int:
    """Fork a whole gateway; the supervisor's pid."""
    pid = os.fork()
    if pid == 0:
        os._exit(supervise(settings))
    return pid


def announce(settings: Settings, address: str) -> None:
    """Say to one worker that the stub is ready; it tells the other."""
    said = {"namespace": "default", "deployment": "chat", "pod": "chat-1", "phase": "Ready"}
    body = json.dumps(said | {"address": address, "slots": 1024}).encode()
    url = f"http://127.0.0.1:{settings.internal_port}/internal/announce"
    for _ in range(100):
        try:
            urllib.request.urlopen(urllib.request.Request(url, body)).close()
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    time.sleep(0.5)


def measure(binary: str, url: str, concurrency: int, seconds: float) -> dict[str, Any]:
    """One round of the load generator."""
    command = [binary, "load", url + PATH, str(concurrency), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def compare(binary: str, urls: tuple[str, str], concurrency: int, options: Any) -> None:
    """Direct and proxied in turn; the medians of all rounds."""
    rounds = []
    for _ in range(options.rounds):
        rounds.append([measure(binary, url, concurrency, options.seconds) for url in urls])
    direct, proxied = (
        {key: statistics.median(pair[side][key] for pair in rounds) for key in rounds[0][0]}
        for side in (0, 1)
    )
    added = [b["first_p50_ms"] - a["first_p50_ms"] for a, b in rounds]
    ratios = [b["requests_per_s"] / a["requests_per_s"] for a, b in rounds]
    errors = sum(result["errors"] for pair in rounds for result in pair)
    print(
        f"{concurrency:>7} | {_row(direct)} | {_row(proxied)} | "
        f"{statistics.median(added):+8.2f} | {statistics.median(ratios):5.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}) | {errors:>6}",
        flush=True,
    )


def _row(side: dict[str, float]) -> str:
    first = f"{side['first_p50_ms']:.2f} / {side['first_p99_ms']:.1f}"
    return f"{side['requests_per_s']:>7.0f} {first:>15}"


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 32, 128])
    options = parser.parse_args()
    settings = Settings(
        host="127.0.0.1",
        port=free_ports(1),
        internal_port=free_ports(options.workers),
        workers=options.workers,
        drain_accept_s=0,
    )
    gateway = start_gateway(settings)
    with tempfile.TemporaryDirectory() as folder:
        binary = build(folder)
        address = f"127.0.0.1:{free_ports(1)}"
        stub = subprocess.Popen([binary, "stub", address])
        try:
            announce(settings, address)
            urls = (f"http://{address}", f"http://127.0.0.1:{settings.port}")
            print(
                "streams | direct: req/s, TTFT p50 / p99 ms | proxied | added ms | ratio | errors"
            )
            for streams in options.streams:
                compare(binary, urls, streams, options)
        finally:
            stub.kill()
            os.kill(gateway, signal.SIGTERM)
            os.waitpid(gateway, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
