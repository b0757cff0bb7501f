"""What is decided before torch is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from stoker_runtime.config import Config
from stoker_runtime.engine.compression import Compression, Order
from stoker_runtime.engine.loading import pick_dtype, prepare
from stoker_runtime.errors import (
    ArchitectureUnsupported,
    CheckpointBroken,
    ConfigInvalid,
    OutOfMemory,
)
from stoker_runtime.kernels import panels
from stoker_runtime.model.spec import Dtype
from stoker_runtime.quant.pack import Scheme
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


def test_converted_weights_count_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "find_functions", lambda: None)
    folder = write_checkpoint(tmp_path, LlamaShape(torch_dtype="bfloat16"))
    kept = prepare(Config(model=folder, dtype="bfloat16"), MACHINE)
    converted = prepare(Config(model=folder, dtype="float32"), MACHINE)
    assert converted.weight_bytes() == 3 * kept.weight_bytes()


@pytest.mark.skipif(panels.find_functions() is None, reason="the library is not built")
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_multiplied_as_it_is_stored_counts_once(tmp_path: Path, tied: bool) -> None:
    shape = LlamaShape(torch_dtype="bfloat16", tie_word_embeddings=tied)
    folder = write_checkpoint(tmp_path, shape)
    kept = prepare(Config(model=folder, dtype="bfloat16"), MACHINE)
    native = prepare(Config(model=folder, dtype="float32"), MACHINE)
    norms = 5 * 64 * 2
    assert native.weight_bytes() == kept.weight_bytes() + 2 * norms


@pytest.mark.skipif(panels.find_functions() is None, reason="the library is not built")
@pytest.mark.parametrize(
    ("settings", "in_panels"),
    [
        ({"dtype": "float32"}, True),
        ({"dtype": "bfloat16"}, False),
        ({"dtype": "float32", "quantization": "int4"}, False),
        ({"dtype": "float32", "device": "cuda"}, False),
    ],
    ids=str,
)
def test_products_are_read_into_panels_where_they_are_multiplied_so(
    tmp_path: Path, settings: dict[str, str], in_panels: bool
) -> None:
    config = Config(model=write_checkpoint(tmp_path), **settings)  # type: ignore[arg-type]
    placed = prepare(config, MACHINE).placed
    found = {name for name, one in placed.items() if one.panels}
    assert any(name.endswith("q_proj.weight") for name in found) is in_panels
    assert ("model.embed_tokens.weight" in found) is in_panels
    assert not any("norm" in name for name in found)
    assert not any(one.panels for one in prepare(config, MACHINE, packs=False).placed.values())


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


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """A checkpoint in compressed-tensors' format."""
    source = write_checkpoint(tmp_path / "source")
    order = Order(source, tmp_path / "quantized", Scheme(4, 32, symmetric=True), "rtn")
    Compression(order).run([])
    return order.target


@pytest.mark.parametrize("setting", ["none", "int8", "int4"])
def test_a_quantised_checkpoint_is_taken_as_it_is_or_refused(quantized: Path, setting: str) -> None:
    assert prepare(Config(model=quantized), MACHINE).spec.quantization is not None
    words = rf"`quantization` must be auto .* \(compressed-tensors\), was '{setting}'"
    with pytest.raises(ConfigInvalid, match=words):
        prepare(Config(model=quantized, quantization=setting), MACHINE)


def test_keys_in_8_bit_floats_are_refused_on_cpus() -> None:
    with pytest.raises(ConfigInvalid, match=r"fp8 needs an NVIDIA GPU .* use int8 or auto"):
        prepare(Config(model=Path("models/tiny-chat"), kv_cache_dtype="fp8"), MACHINE)


def test_a_format_without_code_is_refused_before_the_weights(quantized: Path) -> None:
    (quantized / "model.safetensors").unlink()
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "fp8"
    (quantized / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureUnsupported, match="quant_method` 'fp8' is not supported"):
        prepare(Config(model=quantized), MACHINE)


def test_a_quantised_tensor_that_is_missing_is_named(quantized: Path) -> None:
    tensors = load_file(quantized / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight_scale"]
    save_file(tensors, quantized / "model.safetensors")
    with pytest.raises(CheckpointBroken, match=r"layers\.1\.mlp\.up_proj\.weight_scale .* missing"):
        prepare(Config(model=quantized), MACHINE)


def test_rounding_while_loading_counts_the_larger_of_before_and_after(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    full = prepare(Config(model=folder, dtype="float32"), MACHINE).weight_bytes()
    head = 320 * 64 * 2
    for target in ("int8", "int4"):
        config = Config(model=folder, dtype="float32", quantization=target)
        assert full < prepare(config, MACHINE).weight_bytes() < full + head
