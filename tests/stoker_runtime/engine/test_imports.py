"""What a start imports, and what it leaves for later; each in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from stoker_runtime.engine import imports
from stoker_runtime.engine.imports import DEFERRED


def run_fresh(code: str) -> dict[str, object]:
    """What a program prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_deferred_packages_wait_until_they_are_asked() -> None:
    found = run_fresh(
        "import json, sys\n"
        "from stoker_runtime.engine.imports import DEFERRED, import_torch\n"
        "import_torch()\n"
        "waits = lambda: sorted(n for n in DEFERRED if '__getattr__' in vars(sys.modules[n]))\n"
        "before = waits()\n"
        "import torch\n"
        "mean = float(torch.distributions.Normal(3.0, 1.0).mean)\n"
        "print(json.dumps({'before': before, 'after': waits(), 'mean': mean}))"
    )
    assert found["before"] == sorted(DEFERRED)
    assert found["after"] == sorted(DEFERRED - {"torch.distributions"})
    assert found["mean"] == 3.0


def test_engine_imports_no_compiler_and_no_model_library() -> None:
    found = run_fresh(
        "import json, sys\n"
        "from stoker_runtime.engine.imports import import_torch\n"
        "import_torch()\n"
        "import stoker_runtime.engine.assembly\n"
        "heavy = ['torch._dynamo', 'torch._inductor', 'sympy', 'transformers', 'safetensors']\n"
        "print(json.dumps({'heavy': [name for name in heavy if name in sys.modules]}))"
    )
    assert found["heavy"] == []


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
