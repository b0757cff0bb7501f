"""What is decided before torch is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stoker_runtime.config import Config
from stoker_runtime.engine.loading import pick_dtype, prepare
from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, OutOfMemory
from stoker_runtime.model.spec import Dtype
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import MACHINE


@pytest.mark.parametrize(
    ("wanted", "device", "checkpoint", "has_bf16", "picked"),
    [
        ("auto", "cpu", "bfloat16", True, "bfloat16"),
        ("auto", "cpu", "bfloat16", False, "float32"),
        ("auto", "cpu", "float16", True, "float32"),
        ("auto", "cpu", "float32", True, "float32"),
        ("auto", "cuda", "bfloat16", False, "bfloat16"),
        ("auto", "cuda", "float16", False, "float16"),
        ("float32", "cpu", "bfloat16", True, "float32"),
        ("bfloat16", "cpu", "float32", False, "bfloat16"),
    ],
)
def test_picks_what_the_device_is_good_at(
    wanted: str, device: str, checkpoint: Dtype, has_bf16: bool, picked: str
) -> None:
    config = Config(model=Path("m"), dtype=wanted)
    assert pick_dtype(config, device, checkpoint, has_bf16=has_bf16) == picked


@pytest.mark.parametrize(
    ("setting", "has_gpu", "device"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_takes_a_gpu_if_there_is_one(
    tmp_path: Path, setting: str, has_gpu: bool, device: str
) -> None:
    config = Config(model=write_checkpoint(tmp_path), device=setting)
    assert prepare(config, replace(MACHINE, has_gpu=has_gpu)).device == device


def test_threads_follow_the_machine_unless_told(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    machine = replace(MACHINE, num_cpus=3)
    assert prepare(Config(model=folder), machine).num_threads == 3
    assert prepare(Config(model=folder, threads=2), machine).num_threads == 2


def test_refuses_before_reading_when_memory_is_short(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="MiB are available"):
        prepare(Config(model=write_checkpoint(tmp_path)), replace(MACHINE, available_bytes=1 << 20))


def test_converted_weights_count_twice(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, LlamaShape(torch_dtype="bfloat16"))
    kept = prepare(Config(model=folder, dtype="bfloat16"), MACHINE)
    converted = prepare(Config(model=folder, dtype="float32"), MACHINE)
    assert converted._weight_bytes() == 3 * kept._weight_bytes()


def test_refuses_architectures_by_name_before_the_weights(tmp_path: Path) -> None:
    shape = LlamaShape(extra_config={"architectures": ["GPT2LMHeadModel"]})
    folder = write_checkpoint(tmp_path, shape)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArchitectureUnsupported, match="GPT2LMHeadModel"):
        prepare(Config(model=folder), MACHINE)


def test_refuses_weights_that_do_not_fit_the_config(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    write_checkpoint(tmp_path / "other", LlamaShape(intermediate_size=96))
    (tmp_path / "other/model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(CheckpointBroken, match=r"must have shape \[128, 64\]"):
        prepare(Config(model=folder), MACHINE)
