"""The API process starts lean: no torch, and `/health` within half a second."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import support.fake_engine as fake_engine
from support.checkpoints import write_checkpoint
from support.fake_engine import Script
from support.runtime_server import free_ports, run_server

HEAVY = ("torch", "triton", "safetensors", "numpy", "transformers", "fastapi", "starlette")
LATE = (
    "tokenizers",
    "jinja2",
    "pydantic",
    "aiohttp",
    "prometheus_client",
    "uvicorn",
    "http.client",
)


def loaded_modules(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`."""
    show = "import sys; print('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", f"{code}\n{show}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(output.stdout.split())


def test_the_server_imports_nothing_heavy_before_it_listens() -> None:
    loaded = loaded_modules("import stoker_runtime.__main__, stoker_runtime.server.run")
    assert not loaded & {*HEAVY, *LATE}


def test_the_text_side_never_imports_torch() -> None:
    code = "from stoker_runtime.text import tokenizer, template, detokenize"
    loaded = loaded_modules(code)
    assert "tokenizers" in loaded
    assert not loaded & set(HEAVY)


def test_a_serving_process_has_no_torch_mapped(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    with run_server(model, tmp_path / "log", script=Script()) as server:
        server.wait_for("/ready", 200)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        assert server.request("POST", "/v1/chat/completions", body).status == 200
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "tokenizers" in maps
    assert "torch" not in maps


def test_health_answers_within_half_a_second_of_processor_time(tmp_path: Path) -> None:
    """Wall time on a busy machine says nothing; the CPU seconds spent until then do."""
    model = write_checkpoint(tmp_path / "model")
    with run_server(model, tmp_path / "log", script=Script(load_s=5)) as server:
        server.wait_for("/health", 200)
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert cpu_s < 0.5


@pytest.mark.parametrize("args", [[], ["help"], ["--model", "x"]])
def test_usage_names_the_flags(args: list[str]) -> None:
    command = [sys.executable, "-m", "stoker_runtime", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--max-model-len" in done.stderr


def test_sigterm_before_anything_runs_ends_it(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    with run_server(model, tmp_path / "log", script=Script(load_s=30)) as server:
        time.sleep(0.05)
        server.terminate()
        assert server.process.wait(5) in (0, -15)  # -15: the interpreter itself was not up yet


SERVE_ONE = """
import os, socket, sys, threading, time
from stoker_runtime.__main__ import main

def ask(head, body=b""):
    request = head + b" HTTP/1.0\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))

def watch():
    while True:
        try:
            if b" 200 OK" in ask(b"GET /ready"):
                break
        except OSError:
            pass
        time.sleep(0.05)
    chat = b'{"model": "model", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}'
    assert b" 200 OK" in ask(b"POST /v1/chat/completions", chat)
    sys.stdout.write("\\n".join(sys.modules))
    sys.stdout.flush()
    os._exit(0)

port, engine = int(sys.argv[1]), sys.argv[3]
threading.Thread(target=watch, daemon=True).start()
ports = ["--port", sys.argv[1], "--admin-port", sys.argv[2]]
main(["serve", "--model", sys.argv[4], *ports], [engine])
"""


def test_a_server_that_has_answered_holds_no_torch_and_no_framework(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    ports = [str(port) for port in free_ports(2)]
    command = [sys.executable, "-c", SERVE_ONE, *ports, fake_engine.__file__, str(model)]
    env = os.environ | {"FAKE_ENGINE": fake_engine.dump(Script())}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    modules = set(done.stdout.split())
    assert "stoker_runtime.server.switch" in modules, done.stderr
    unwanted = {*HEAVY, *LATE} - {"tokenizers", "jinja2"}  # these two make the texts
    assert not modules & unwanted
    assert not [name for name in modules if name.startswith("stoker_runtime.engine")]
    assert not [name for name in modules if name.startswith("stoker_runtime.model")]
