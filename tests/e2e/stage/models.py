"""Checkpoint folders on the stories' volume: good copies, and copies spoiled in one way each.

It knows the files of a checkpoint; it knows no cluster.
"""

import json
import shutil
from pathlib import Path

from e2e.harness.settings import REPOSITORY

TINY_CHAT = REPOSITORY / "models" / "tiny-chat"


def copy_tiny_chat(folder: Path) -> Path:
    """A fresh copy of the committed model, readable by any user."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(TINY_CHAT, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def remove_weights(folder: Path) -> None:
    """No weights at all."""
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    """A download that stopped half-way."""
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])


def break_shape(folder: Path) -> None:
    """A tensor that does not have the shape that the config asks for."""
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] += 8
    (folder / "config.json").write_text(json.dumps(config))


def break_architecture(folder: Path) -> None:
    """An architecture that nobody knows."""
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["OddForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
