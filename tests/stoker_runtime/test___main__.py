"""The API process starts lean: no torch, and `/health` within half a second."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.checkpoints import write_checkpoint
from support.fake_engine import Script
from support.runtime_server import run_server

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
