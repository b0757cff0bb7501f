"""`stoker bench` as people run it, against the real runtime and against servers that fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stoker_cli.__main__ import app
from support.runtime_server import RuntimeServer, free_ports, run_tiny_chat, wait_until

TOKENS = "stoker_runtime_generation_tokens_total"
BENCH = (sys.executable, "-m", "stoker_cli", "bench")
TRACE = "arrival_s,input_tokens,output_tokens\n0.1,60,4\n0.15,80,5\n0.3,70,6\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    log = tmp_path_factory.mktemp("server") / "log"
    with run_tiny_chat(log) as running:
        yield running


def bench(*args: str) -> Result:
    """The command within this process."""
    return CliRunner().invoke(app, ["bench", *args])


def url(server: RuntimeServer) -> str:
    return f"127.0.0.1:{server.port}"


def test_an_open_loop_measures_every_request(server: RuntimeServer, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    args = ("--rate", "20", "-n", "6", "--warmup", "1", "--json", str(file))
    done = bench(url(server), *args)
    assert done.exit_code == 0, done.stderr
    assert "6 answers" in done.stdout
    assert "from when it was due" in done.stdout
    [run] = json.loads(file.read_text())["runs"]
    assert (run["num_ok"], run["errors"], run["is_counted"]) == (6, {}, True)
    assert run["model"] == "tiny"
    lengths = [request["input_tokens"] for request in run["requests"]]
    assert all(25 <= length <= 140 for length in lengths), "calibrated to the workload's 32–128"
    assert sum(lengths) == run["input_tokens"]
    assert run["cached_tokens"] < run["input_tokens"] / 4


def test_two_urls_are_measured_by_turns(server: RuntimeServer, tmp_path: Path) -> None:
    file, other = tmp_path / "out.json", f"http://localhost:{server.port}/v1/"
    args = ("-c", "2", "-n", "2", "--rounds", "2", "--warmup", "0", "--json", str(file))
    done = bench(url(server), other, *args)
    assert done.exit_code == 0, done.stderr
    document = json.loads(file.read_text())
    assert [run["round"] for run in document["runs"]] == [1, 1, 2, 2]
    first, second, *_ = document["runs"]
    assert [first["url"], second["url"]] == [f"http://{url(server)}/v1", other.rstrip("/")]
    assert len(document["ratios"]) == 2
    assert "median" in done.stdout


def test_a_trace_is_replayed_with_its_lengths(server: RuntimeServer, tmp_path: Path) -> None:
    trace, file = tmp_path / "trace.csv", tmp_path / "out.json"
    trace.write_text(TRACE)
    args = ("--trace", str(trace), "--ignore-eos", "--warmup", "0", "--json", str(file))
    done = bench(url(server), *args)
    assert done.exit_code == 0, done.stderr
    [run] = json.loads(file.read_text())["runs"]
    requests = sorted(run["requests"], key=lambda request: float(request["due_s"]))
    assert [request["output_tokens"] for request in requests] == [4, 5, 6]
    assert [request["due_s"] for request in requests] == pytest.approx([0, 0.05, 0.2], abs=1e-3)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_being_stopped_prints_what_was_measured(
    server: RuntimeServer, tmp_path: Path, signum: int, code: int
) -> None:
    file = tmp_path / "out.json"
    args = (*BENCH, url(server), "-c", "2", "--duration", "10m", "--warmup", "0")
    enough = server.metric(TOKENS) + 300  # two answers are 256 at most, so one has ended
    with subprocess.Popen(
        [*args, "--json", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: server.metric(TOKENS) >= enough, 100)
        process.send_signal(signum)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "answers in" in said
    assert "were cut" in said
    [run] = json.loads(file.read_text())["runs"]
    assert run["num_ok"] >= 1
    assert run["num_cut"] == 2


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    [port] = free_ports(1)
    done = bench(f"127.0.0.1:{port}")
    assert done.exit_code == 1
    assert "can't be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_model_is_said_with_the_servers_words(server: RuntimeServer) -> None:
    done = bench(url(server), "--model", "other")
    assert done.exit_code == 1
    assert "HTTP 404 model_not_found" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--workload", "tiny"), "--workload must be one of short"),
        (("--ttft-goal", "soon"), "must be a duration such as"),
        (("--scale", "0"), "--scale must be above 0"),
        (("--rate", "0"), "--rate must be above 0"),
        (("-c", "0"), "--concurrency must be above 0"),
        (("-n", "0"), "--requests must be above 0"),
        (("--duration", "0"), "--duration must be above 0"),
        (("--burstiness", "nan"), "--burstiness must be at least 0"),
        (("--json", "/nowhere/out.json"), "--json must be a file"),
        (("--trace", "/nowhere.csv"), "--trace"),
        (("b", "c"), "not more"),
    ],
)
def test_wrong_options_are_refused_by_name(args: tuple[str, ...], words: str) -> None:
    done = bench("a", *args)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
