"""Weights in host memory: filled in order, within their room, given out only while they hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stoker_runtime.config import Config
from stoker_runtime.engine.assembly import build_model
from stoker_runtime.engine.loading import Recipe, prepare
from stoker_runtime.engine.resident import Residents
from stoker_runtime.kernels import panels
from stoker_runtime.kernels.linear import DenseLinear
from stoker_runtime.kernels.packed import PackedLinear
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.wire import Resident
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import MACHINE

STANDBY = Config(device="cpu", threads=1, dtype="float32")
Fill = Callable[..., tuple[Residents, list[Resident]]]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_checkpoint(tmp_path / f"m{seed}", LlamaShape(seed=seed)) for seed in (1, 2)]


def fill(folders: list[Path], **settings: int) -> tuple[Residents, list[Resident]]:
    """Residents that have read all there is to read, and what they said."""
    said: list[Resident] = []
    preload = ",".join(map(str, folders))
    config = replace(STANDBY, preload=preload, **settings)  # type: ignore[arg-type]
    residents = Residents(config, MACHINE, said.append)
    residents.start()
    for folder in folders:
        residents.num_bytes(folder)
    return residents, said


def recipe_of(folder: Path) -> Recipe:
    return prepare(replace(STANDBY, model=folder), MACHINE)


def test_what_is_resident_is_what_would_be_read(models: list[Path]) -> None:
    residents, said = fill(models)
    assert [one.folder for one in said] == [str(folder) for folder in models]
    for folder, told in zip(models, said, strict=True):
        recipe = recipe_of(folder)
        held = residents.claim(recipe)
        assert held is not None
        assert held[:] == BlobReader(recipe.placed, 1).start().wait()[:]
        assert told.num_bytes == residents.num_bytes(folder) == len(held)


def test_others_are_not_resident(models: list[Path]) -> None:
    residents, _ = fill(models[:1])
    assert residents.claim(recipe_of(models[1])) is None
    assert residents.num_bytes(models[1]) == 0
    assert fill([])[0].claim(recipe_of(models[0])) is None


@pytest.mark.parametrize("change", ["touched", "rewritten"])
def test_files_that_changed_are_read_again(models: list[Path], change: str) -> None:
    residents, said = fill(models[:1])
    weights = models[0] / "model.safetensors"
    if change == "touched":
        os.utime(weights, ns=(1, 1))
    else:
        shutil.copy(models[1] / "model.safetensors", weights)
    assert residents.claim(recipe_of(models[0])) is None
    assert residents.num_bytes(models[0]) == 0
    assert (said[-1].num_bytes, "files changed" in said[-1].error) == (0, True)


def test_what_does_not_fit_is_left_out_and_what_comes_later_may_fit(
    models: list[Path], tmp_path: Path
) -> None:
    large = write_checkpoint(tmp_path / "large", LlamaShape(vocab_size=3000))
    size = fill(models[:1])[1][0].num_bytes
    residents, said = fill([large, *models], preload_bytes=size + 100)
    assert [one.num_bytes for one in said] == [0, size, 0]
    assert f"`preload_bytes` has room for {size + 100}" in said[0].error
    assert residents.claim(recipe_of(models[0])) is not None


def test_a_broken_checkpoint_is_left_out_by_name(models: list[Path], tmp_path: Path) -> None:
    (models[0] / "model.safetensors").write_bytes(b"broken")
    residents, said = fill([models[0], tmp_path / "absent", models[1]])
    assert [one.num_bytes > 0 for one in said] == [False, False, True]
    assert "model.safetensors is truncated" in said[0].error
    assert "absent" in said[1].error
    assert residents.claim(recipe_of(models[1])) is not None


def test_panels_are_turned_for_a_load_that_rounds_and_back(models: list[Path]) -> None:
    residents, _ = fill(models[:1])
    plain, rounded = (
        prepare(replace(STANDBY, model=models[0], quantization=target), MACHINE)
        for target in ("auto", "int8")
    )
    for recipe in (rounded, plain, rounded):
        held = residents.claim(recipe)
        assert held is not None
        assert held[:] == BlobReader(recipe.placed, 1).start().wait()[:]


@pytest.mark.skipif(panels.find_functions() is None, reason="the library is not built")
def test_what_could_not_be_turned_is_not_given_out_again(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    residents, _ = fill(models[:1])
    recipe = prepare(replace(STANDBY, model=models[0], quantization="int8"), MACHINE)
    library = SimpleNamespace(stoker_turn=lambda *_: 0)
    with monkeypatch.context() as patch:
        patch.setattr(panels, "find_functions", lambda: library)
        with pytest.raises(MemoryError):
            residents.claim(recipe)
    assert residents.claim(recipe_of(models[0])) is None


def test_a_model_multiplies_what_is_resident_without_a_copy(models: list[Path]) -> None:
    residents, _ = fill(models[:1])
    recipe = recipe_of(models[0])
    held = residents.claim(recipe)
    assert held is not None
    storages = [torch.frombuffer(held, dtype=torch.uint8).untyped_storage().data_ptr()]
    model = build_model(recipe, held)
    storages += [model.embed.held.untyped_storage().data_ptr()]
    for layer in model.layers:
        match layer.qkv:
            case PackedLinear(held=(torch.Tensor() as units, *_)):
                storages.append(units.untyped_storage().data_ptr())
            case DenseLinear(weight):
                storages.append(weight.untyped_storage().data_ptr())
    assert len(storages) == 2 + len(model.layers)
    assert len(set(storages)) == 1
