"""Models move in and out of one process: the same answers each time, and nothing left behind."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stoker_runtime.config import Config
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.resident import Residents
from stoker_runtime.engine.tenancy import Tenancy
from stoker_runtime.errors import CheckpointBroken, ConfigInvalid, OutOfMemory, StokerRuntimeError
from stoker_runtime.wire import Generate, Resident
from support.checkpoints import LlamaShape, random_weights, write_checkpoint, write_safetensors
from support.engines import GREEDY, MACHINE, make_engine, run_all, token_ids

STANDBY = Config(device="cpu", threads=1, dtype="float32", kv_cache_tokens=4096)
PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_checkpoint(folder / f"m{seed}", LlamaShape(seed=seed)) for seed in (1, 2)]


def make_tenancy(*preload: Path, said: list[Resident] | None = None) -> tuple[Tenancy, list[str]]:
    phases: list[str] = []
    told = [] if said is None else said
    config = replace(STANDBY, preload=",".join(map(str, preload)))
    residents = Residents(config, MACHINE, told.append)
    residents.start()
    tenancy = Tenancy(residents, phases.append)
    tenancy.warm_up(config, MACHINE)
    return tenancy, phases


def ask(engine: Engine | None) -> list[int]:
    assert engine, "a model is awake"
    return token_ids(run_all(engine, [Generate("a", PROMPT, GREEDY)])["a"])


def expect(folder: Path) -> list[int]:
    return ask(make_engine(folder))


def test_models_take_turns_and_each_answers_as_if_it_were_alone(models: list[Path]) -> None:
    tenancy, phases = make_tenancy(models[1])
    for folder, path in [(models[0], "warm"), (models[1], "resident")] * 2:
        phases.clear()
        loaded = tenancy.load(replace(STANDBY, model=folder))
        assert (loaded.path, phases) == (path, ["imports", "weights", "firstToken"])
        assert ask(tenancy.engine) == expect(folder)
        tenancy.unload()
        assert tenancy.engine is None


@pytest.mark.parametrize("settings", [{"quantization": "int8"}, {"dtype": "bfloat16"}])
def test_resident_weights_outlive_models_that_were_made_of_them(
    models: list[Path], settings: dict[str, str]
) -> None:
    tenancy, _ = make_tenancy(models[0])
    changed = replace(STANDBY, model=models[0], **settings)  # type: ignore[arg-type]
    for config in (changed, replace(STANDBY, model=models[0])):
        assert tenancy.load(config).path == "resident"
        answer = ask(tenancy.engine)
        tenancy.unload()
    assert answer == expect(models[0])


@pytest.mark.parametrize("level", [1, 2])
def test_a_sleeper_wakes_as_it_was_without_its_cache(
    models: list[Path], level: Literal[1, 2]
) -> None:
    tenancy, _ = make_tenancy()
    tenancy.load(replace(STANDBY, model=models[0]))
    before = ask(tenancy.engine)
    cached = run_all(tenancy.engine, [Generate("b", PROMPT * 20, GREEDY)])  # type: ignore[arg-type]
    tenancy.sleep(level)
    assert tenancy.engine is None
    assert tenancy.wake().path == ("resident" if level == 1 else "warm")
    again = run_all(tenancy.engine, [Generate("b", PROMPT * 20, GREEDY)])  # type: ignore[arg-type]
    assert again["b"][0].num_cached_tokens == 0
    assert token_ids(again["b"]) == token_ids(cached["b"])
    assert ask(tenancy.engine) == before
    tenancy.unload()


@pytest.mark.parametrize("leave", ["unload", "sleep"])
def test_cache_and_weights_are_freed(models: list[Path], leave: str) -> None:
    tenancy, _ = make_tenancy()
    tenancy.load(replace(STANDBY, model=models[0]))
    ask(tenancy.engine)
    assert tenancy.engine
    assert tenancy._model
    gone = [weakref.ref(tenancy.engine), weakref.ref(tenancy.engine._runner)]
    embed = weakref.ref(tenancy._model.embed.held)
    if leave == "unload":
        tenancy.unload()
        gone.append(embed)  # type: ignore[arg-type]
    else:
        tenancy.sleep(1)
    gc.collect()
    assert [one() for one in gone] == [None] * len(gone)
    tenancy.unload()


def spoil(folder: Path, value: float) -> None:
    """A weight of every product that no model can compute with."""
    tensors = dict(random_weights(LlamaShape()))
    tensors["model.layers.0.mlp.down_proj.weight"] = np.full_like(
        tensors["model.layers.0.mlp.down_proj.weight"], value
    )
    write_safetensors(folder / "model.safetensors", tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_with_the_first_token(
    tmp_path: Path, value: float
) -> None:
    folder = write_checkpoint(tmp_path)
    spoil(folder, value)
    tenancy, _ = make_tenancy()
    with pytest.raises(CheckpointBroken, match=r"not finite.*its weights are damaged"):
        tenancy.load(replace(STANDBY, model=folder))
    assert tenancy.engine is None


def rehearse(tenancy: Tenancy) -> None:
    """As a standby does while nothing else is asked of it."""
    while tenancy.may_rehearse:
        tenancy.rehearse()


def test_a_resident_makes_its_first_token_before_it_is_asked_for(
    models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenancy, phases = make_tenancy(models[0])
    rehearse(tenancy)
    assert (tenancy.engine, phases) == (None, ["imports"])
    answer = expect(models[0])
    made: list[Engine] = []
    monkeypatch.setattr(Engine, "warm_up", lambda engine: made.append(engine))
    for _ in range(2):
        assert tenancy.load(replace(STANDBY, model=models[0])).path == "resident"
        assert not tenancy.may_rehearse
        assert (made, ask(tenancy.engine)) == ([], answer)
        tenancy.sleep(1)
        tenancy.wake()
        assert made == []
        tenancy.unload()
    tenancy.load(replace(STANDBY, model=models[1]))
    assert made == [tenancy.engine]


def test_a_resident_that_was_not_rehearsed_is_once_it_has_worked(models: list[Path]) -> None:
    tenancy, _ = make_tenancy(models[0])
    tenancy.load(replace(STANDBY, model=models[0]))
    tenancy.unload()
    assert not tenancy.may_rehearse


def test_a_damaged_resident_is_told_of_in_advance(models: list[Path], tmp_path: Path) -> None:
    damaged = write_checkpoint(tmp_path)
    spoil(damaged, np.nan)
    said: list[Resident] = []
    tenancy, _ = make_tenancy(damaged, models[0], said=said)
    rehearse(tenancy)
    told = [one for one in said if one.folder == str(damaged)][-1]
    assert (told.num_bytes, "weights are damaged" in told.error) == (0, True)
    with pytest.raises(CheckpointBroken):
        tenancy.load(replace(STANDBY, model=damaged))
    assert tenancy.load(replace(STANDBY, model=models[0])).path == "resident"


def test_a_load_that_fails_leaves_room_for_the_next(models: list[Path], tmp_path: Path) -> None:
    tenancy, _ = make_tenancy()
    broken = write_checkpoint(tmp_path)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    failures: list[tuple[type[StokerRuntimeError], Config]] = [
        (CheckpointBroken, replace(STANDBY, model=broken)),
        (ConfigInvalid, replace(STANDBY, model=models[0], max_model_len=10**6)),
        (OutOfMemory, replace(STANDBY, model=models[0], kv_cache_tokens=10**12)),
    ]
    for error, config in failures:
        with pytest.raises(error):
            tenancy.load(config)
        assert tenancy.engine is None
    tenancy.load(replace(STANDBY, model=models[0]))
    assert ask(tenancy.engine) == expect(models[0])
    tenancy.unload()


def test_a_sleeper_whose_files_are_gone_can_not_wake_and_is_gone_too(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    tenancy, _ = make_tenancy()
    tenancy.load(replace(STANDBY, model=folder))
    tenancy.sleep(2)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointBroken, match="can't be read"):
        tenancy.wake()
    tenancy.load(replace(STANDBY, model=write_checkpoint(tmp_path)))
    tenancy.unload()
