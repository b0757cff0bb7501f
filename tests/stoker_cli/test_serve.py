"""`stoker serve`: what is refused before anything starts, and a life with the real runtime."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from stoker_cli import serve
from stoker_cli.serve import Place, check_folder, describe, die_with, find_port
from support.checkpoints import write_tokenizer
from support.runtime_server import ROOT, free_ports, wait_until

MODEL = ROOT / "models/tiny-chat"


@contextmanager
def started(folder: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`stoker serve`; its process group is ended in the end."""
    command = [sys.executable, "-m", "stoker_cli", "serve", str(folder), "--threads", "1", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """All lines up to the one with these words."""
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"{words!r} was never said: {''.join(lines)}")


def test_says_how_to_ask_when_ready_and_drains_at_ctrl_c() -> None:
    [port] = free_ports(1)
    flags = ("--port", str(port), "--name", "tiny", "--kv-cache-tokens=1024")
    with started(MODEL, *flags) as process:
        said = read_until(process, "-d ")
        assert f"tiny is ready at http://127.0.0.1:{port}/v1" in said
        curl = shlex.split(said.partition("  curl ")[2].replace("\\\n", ""))
        url, body = curl[0], curl[curl.index("-d") + 1]
        assert "content" in ask(url, body)["choices"][0]["message"]
        process.send_signal(signal.SIGINT)
        read_until(process, "draining")
        assert process.wait(60) == 0


def ask(url: str, body: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as response:
        return dict(json.load(response))


def test_a_parent_that_is_killed_takes_the_runtime_along() -> None:
    with started(MODEL, "--port", "0", "--kv-cache-tokens=1024") as process:
        read_until(process, "-d ")
        family = descendants(process.pid)
        assert len(family) == 2  # the runtime's two processes
        process.kill()
        wait_until(lambda: not any(map(is_running, family)), 60)


@pytest.mark.parametrize(("script", "code"), [("kill -9 $$", 137), ("exit 3", 3), ("exit 0", 1)])
def test_a_runtime_that_ends_by_itself_is_a_failure(
    script: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    [port] = free_ports(1)
    assert serve._Served(Place("127.0.0.1", port, "m")).run(["sh", "-c", script]) == code


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_of_elsewhere_is_refused_by_name(host: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"--host {host}"):
        find_port(host)


def descendants(pid: int) -> list[int]:
    """Children and theirs."""
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, words) for one in (child, *descendants(child))]


def is_running(pid: int) -> bool:
    """Nobody may have taken note of its end."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_parent_that_died_before_the_kernel_was_asked_takes_it_along_too() -> None:
    somebody_else = 1
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run(command, preexec_fn=die_with(os.getpid())).returncode == 7
    assert subprocess.run(command, preexec_fn=die_with(somebody_else)).returncode == 1


def test_a_model_that_cannot_be_served_ends_with_its_reason(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, 320)  # or its absence may be noticed first
    (tmp_path / "config.json").write_text('{"architectures": ["Abacus"]}')
    with started(tmp_path, "--port", "0") as process:
        said = read_until(process, "Abacus")
        assert "Traceback" not in said
        assert process.wait(60) == 1


def test_an_unknown_flag_is_refused_by_the_runtime() -> None:
    with started(MODEL, "--port", "0", "--beat-the-clock", "1") as process:
        assert "--beat-the-clock" in read_until(process, "unknown flag")
        assert process.wait(60) == 2


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("org/name", "hf download org/name --local-dir name"),
        ("/nowhere/at/all", "no folder"),
        (str(MODEL / "config.json"), "no folder"),
        (str(ROOT), "no config.json"),
    ],
)
def test_what_is_no_checkpoint_is_refused_at_once(path: str, words: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        check_folder(Path(path))
    assert words in refused.value.message


def test_missing_libraries_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "_NEEDED", ("json", "no_such_library"))
    with pytest.raises(typer.Exit):
        serve.check_installed()
    said = capsys.readouterr().err
    assert "no_such_library missing" in said
    assert "pip install" in said


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000/v1"),
        ("::", "http://[::1]:8000/v1"),
        ("box.local", "http://box.local:8000/v1"),
    ],
)
def test_the_address_shown_leads_to_the_server(host: str, url: str) -> None:
    assert Place(host, 8000, "m").url == url


def test_the_key_is_asked_for_and_not_shown() -> None:
    said = describe(Place("127.0.0.1", 8000, "m"), "s3cret")
    assert "Bearer $STOKER_API_KEY" in said
    assert "s3cret" not in said
    assert find_port("127.0.0.1") > 0
