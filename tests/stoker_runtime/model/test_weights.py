"""Bytes become tensors: views where possible, conversions where asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stoker_runtime.kernels.linear import GroupedLinear, Int8Linear
from stoker_runtime.kernels.native import find_library
from stoker_runtime.model.checkpoint import read_headers
from stoker_runtime.model.layout import plan_layout
from stoker_runtime.model.reader import BlobReader, place_tensors
from stoker_runtime.model.spec import read_spec
from stoker_runtime.model.storage import pick_products
from stoker_runtime.model.weights import WeightPlan, build_tensors, build_weights
from support.checkpoints import LlamaShape, random_weights, write_checkpoint, write_safetensors

CPU = torch.device("cpu")
ATTN = "model.layers.1.self_attn"


def build(folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    layout = plan_layout(read_spec(folder))
    placed = place_tensors(layout, read_headers(folder))
    return build_tensors(BlobReader(placed, 2).start().wait(), layout, placed, dtype, CPU)


def fused(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[f"{ATTN}.{name}_proj.weight"] for name in "qkv"])


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_values_are_the_checkpoints(tmp_path: Path, stored: str, wanted: torch.dtype) -> None:
    folder = write_checkpoint(tmp_path, LlamaShape(torch_dtype=stored))
    tensors = build(folder, wanted)
    qkv = tensors["layers.1.qkv.weight"]
    assert qkv.dtype == wanted
    assert torch.equal(qkv, fused(folder).to(wanted))


def test_tensors_of_the_right_dtype_share_one_storage(tmp_path: Path) -> None:
    tensors = build(write_checkpoint(tmp_path), torch.float32)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 1


def test_parts_of_different_dtypes_are_brought_together(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, shards=2)
    tensors = dict(random_weights(LlamaShape()))
    for index, dtype in enumerate(["float32", "bfloat16"], start=1):
        part = {
            name: value for i, (name, value) in enumerate(tensors.items()) if i % 2 == index - 1
        }
        write_safetensors(folder / f"model-{index:05}-of-00002.safetensors", part, dtype)
    qkv = build(folder, torch.float32)["layers.1.qkv.weight"]
    expected = [torch.from_numpy(tensors[f"{ATTN}.{name}_proj.weight"]) for name in "qkv"]
    torch.testing.assert_close(qkv, torch.cat(expected), atol=0.01, rtol=0)


@pytest.mark.parametrize("owned", [True, False])
def test_bytes_that_were_rounded_are_given_back_if_nobody_else_wants_them(
    tmp_path: Path, owned: bool
) -> None:
    shape = LlamaShape(intermediate_size=1024, tie_word_embeddings=False)
    folder = write_checkpoint(tmp_path, shape)
    layout = plan_layout(read_spec(folder))
    placed = place_tensors(layout, read_headers(folder))
    blob = BlobReader(placed, 2).start().wait()
    plan = WeightPlan(torch.float32, CPU, quantize_to="int4", owns_blob=owned)
    weights = build_weights(blob, layout, placed, plan)
    for name in ("model.layers.0.mlp.down_proj.weight", "lm_head.weight"):
        middle = placed[name].at + placed[name].tensor.num_bytes // 2
        assert any(blob[middle : middle + 256]) is not owned
    assert bool(weights.embed(torch.arange(9)).any())
    assert isinstance(weights.linears["layers.0.down"], GroupedLinear)
    assert isinstance(weights.linears["head"], Int8Linear)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("vocab_size", [320, 330])
def test_panels_hold_what_rows_do(tmp_path: Path, stored: str, tied: bool, vocab_size: int) -> None:
    shape = LlamaShape(torch_dtype=stored, tie_word_embeddings=tied, vocab_size=vocab_size)
    folder = write_checkpoint(tmp_path, shape)
    layout = plan_layout(read_spec(folder))
    tensors, ids = read_headers(folder), torch.tensor([0, 17, 319, 5])
    found = []
    chosen = pick_products(layout, layout)
    for wanted, packs in (((), False), ((), True), (chosen, True), (chosen, False)):
        placed = place_tensors(layout, tensors, wanted)
        blob = BlobReader(placed, 2).start().wait()
        plan = WeightPlan(torch.float32, CPU, packs=packs and find_library() is not None)
        found.append(build_weights(blob, layout, placed, plan))
    rows, *others = found
    for other in others:
        assert torch.equal(other.embed(ids), rows.embed(ids))
        assert other.embed.dtype == torch.float32
        for name, linear in rows.linears.items():
            y = torch.randn(3, 128 if name.endswith("down") else 64)
            torch.testing.assert_close(other.linears[name](y), linear(y), atol=1e-4, rtol=1e-4)
