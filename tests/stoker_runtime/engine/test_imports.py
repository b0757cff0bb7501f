"""What a start imports, and what it leaves for later; each in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker_runtime.engine import imports
from stoker_runtime.engine.imports import DEFERRED
from support.checkpoints import write_checkpoint


def run_fresh(code: str) -> dict[str, object]:
    """What a program prints as JSON."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def engine() -> dict[str, object]:
    """What the engine has imported when it could begin, before and after somebody asks for more."""
    return run_fresh(
        "import json, os, sys\n"
        "from stoker_runtime.engine.imports import DEFERRED, link_torch, ready_torch\n"
        "link_torch()\n"
        "ready_torch(1)\n"
        "import stoker_runtime.engine.assembly, torch\n"
        "waits = lambda: sorted(n for n in DEFERRED if '__getattr__' in vars(sys.modules[n]))\n"
        "torch.tensor([1.0], device='cpu').tolist()\n"
        "modules, before = sorted(sys.modules), waits()\n"
        "mean = float(torch.distributions.Normal(3.0, 1.0).mean)\n"
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)\n"
        "dist.all_reduce(total := torch.ones(2))\n"
        "doubled = torch.vmap(lambda x: 2 * x)(torch.ones(2))\n"
        "facts = {'modules': modules, 'before': before, 'after': waits(), 'mean': mean,\n"
        "    'total': total.tolist(), 'doubled': doubled.tolist()}\n"
        "print(json.dumps(facts), flush=True)\n"
        "os._exit(0)"
    )


def test_deferred_packages_wait_until_they_are_asked(engine: dict[str, list[str]]) -> None:
    assert engine["before"] == sorted(DEFERRED)
    asked = {"torch.distributions", "torch.distributed", "torch.func"}
    assert not asked & set(engine["after"])
    assert "torch.optim" in engine["after"]


def test_deferred_packages_work_as_ever(engine: dict[str, object]) -> None:
    assert engine["mean"] == 3.0
    assert engine["total"] == [1.0, 1.0]
    assert engine["doubled"] == [2.0, 2.0]


def test_engine_imports_no_compiler_and_no_model_library(engine: dict[str, list[str]]) -> None:
    heavy = {"torch._dynamo", "torch._inductor", "sympy", "transformers", "safetensors"}
    unused = {"numpy", "asyncio", "unittest", "urllib.request"}
    assert not (heavy | unused) & set(engine["modules"])


def test_libraries_are_linked_before_torch_is_imported() -> None:
    found = run_fresh(
        "import json, sys, threading\n"
        "from pathlib import Path\n"
        "from stoker_runtime.engine.imports import link_torch\n"
        "link_torch()\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'link torch']\n"
        "is_mapped = 'libtorch_python.so' in Path('/proc/self/maps').read_text()\n"
        "print(json.dumps({'mapped': is_mapped, 'imported': 'torch' in sys.modules}))"
    )
    assert found == {"mapped": True, "imported": False}


def test_the_process_knows_no_torch_before_the_weights_are_read() -> None:
    found = run_fresh(
        "import json, sys\n"
        "import stoker_runtime.engine.process\n"
        "slow = ['torch', 'numpy', 'asyncio', 'argparse']\n"
        "print(json.dumps({'slow': [name for name in slow if name in sys.modules]}))"
    )
    assert found["slow"] == []


def test_a_torch_that_refuses_is_imported_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def refuse() -> None:
        raise ImportError("circular")

    monkeypatch.setattr(imports, "import_torch", refuse)
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    monkeypatch.setattr(sys, "argv", ["engine", "--fd", "3"])
    monkeypatch.setenv("_STOKER_PLAIN_IMPORTS", "")
    imports._import_or_restart()
    assert started == [[sys.executable, "-m", "stoker_runtime.engine", "--fd", "3"]]
    imports._import_or_restart()
    assert len(started) == 1


SERVE_ONE = """
import json, os, socket, sys, threading
from stoker_runtime.engine import process
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import ApiInbox, Generate, Loaded, Outputs, send

ours, theirs = socket.socketpair()
params = SamplingParams(max_tokens=3, temperature=0.7, top_k=5, logprobs=2)

def watch():
    inbox = ApiInbox()
    while data := ours.recv(1 << 16):
        for message in inbox.feed(data):
            if isinstance(message, Loaded):
                send(ours, Generate("a", [5, 6, 7], params))
            if isinstance(message, Outputs) and message.outputs[-1].finish_reason:
                print(json.dumps({"modules": sorted(sys.modules)}), flush=True)
                os._exit(0)

threading.Thread(target=watch, daemon=True).start()
process.main(["--fd", str(theirs.detach()), "--threads", "1", *sys.argv[1:]], {})
"""


@pytest.mark.parametrize("settings", [[], ["--quantization", "int8"]], ids=["plain", "int8"])
def test_an_engine_that_has_answered_holds_no_compiler_and_no_server(
    tmp_path: Path, settings: list[str]
) -> None:
    folder = write_checkpoint(tmp_path)
    command = [sys.executable, "-c", SERVE_ONE, "--model", str(folder), *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    modules = set(json.loads(done.stdout)["modules"])
    assert "torch" in modules
    assert not modules & {
        *("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "sympy"),
        *("torchvision", "transformers", "safetensors", "triton", "pandas", "scipy"),
        *("uvloop", "httptools", "tokenizers", "jinja2", "pydantic"),
    }
    assert not [
        name for name in modules if name.startswith(("stoker_runtime.server", "stoker_api"))
    ]
