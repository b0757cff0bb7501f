"""The shares of all ranks together are the model, tensor by tensor, and nobody reads another's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.model.checkpoint import Stored, read_headers
from stoker_runtime.model.layout import plan_layout
from stoker_runtime.model.narrow import narrow_checkpoint, narrow_spec
from stoker_runtime.model.reader import BlobReader, place_tensors
from stoker_runtime.model.spec import ModelSpec, read_spec
from stoker_runtime.model.storage import plan_storage
from stoker_runtime.model.weights import stored_tensor
from stoker_runtime.parallel.share import Share
from support.checkpoints import LlamaShape, write_checkpoint
from support.families import write_family
from support.quantized import (
    Packer,
    Recipe,
    pack_awq,
    pack_compressed,
    pack_gptq,
    pack_int8,
    write_quantized,
)

SHAPE = LlamaShape(num_hidden_layers=1)
LAYER = "model.layers.0."


@dataclass(frozen=True)
class Part:
    """What one rank has."""

    spec: ModelSpec
    stored: dict[str, Stored]

    def read(self) -> dict[str, torch.Tensor]:
        """Every tensor, by way of the reader."""
        layout = plan_storage(plan_layout(self.spec), self.spec.quantization, self.stored)
        placed = place_tensors(layout, self.stored)
        blob = BlobReader(placed, 1).start().wait()
        return {name: stored_tensor(blob, one) for name, one in placed.items()}


def divide(folder: Path, ranks: int) -> list[Part]:
    spec, stored = read_spec(folder), read_headers(folder)
    parts = []
    for rank in range(ranks):
        own = narrow_spec(spec, Share(rank, ranks))
        parts.append(Part(own, narrow_checkpoint(spec, own, stored)))
    return parts


def test_each_rank_reads_its_rows_and_columns(tmp_path: Path) -> None:
    shape = replace(SHAPE, tie_word_embeddings=False, attention_bias=True, mlp_bias=True)
    folder = write_checkpoint(tmp_path, shape)
    whole, parts = load_file(folder / "model.safetensors"), divide(folder, 2)
    shares = [part.read() for part in parts]
    for name, tensor in whole.items():
        mine = [share[name] for share in shares if name in share]
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert torch.equal(torch.cat(mine, dim=1), tensor), name
        elif name.endswith(("o_proj.bias", "down_proj.bias")):
            (only,) = mine  # added once
            assert torch.equal(only, tensor), name
        elif "norm" in name:
            assert all(torch.equal(one, tensor) for one in mine), name
        else:
            assert torch.equal(torch.cat(mine), tensor), name
    total = sum(tensor.nbytes for tensor in whole.values())
    assert all(sum(one.num_bytes for one in part.stored.values()) < 0.51 * total for part in parts)


def test_an_odd_vocabulary_is_split_as_evenly_as_it_can_be(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, replace(SHAPE, vocab_size=323))
    shares = [part.read()["model.embed_tokens.weight"] for part in divide(folder, 2)]
    assert [len(share) for share in shares] == [161, 162]
    whole = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(torch.cat(shares), whole)


def test_ranks_beyond_the_key_heads_share_them_as_their_query_heads_do(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, SHAPE)  # 4 query heads, 2 key heads of 16
    whole = load_file(folder / "model.safetensors")[f"{LAYER}self_attn.k_proj.weight"]
    for rank, part in enumerate(divide(folder, 4)):
        assert (part.spec.num_heads, part.spec.num_kv_heads) == (1, 1)
        head = rank // 2
        mine = part.read()[f"{LAYER}self_attn.k_proj.weight"]
        assert torch.equal(mine, whole[16 * head : 16 * head + 16])


def test_what_is_stored_as_one_tensor_is_taken_apart(tmp_path: Path) -> None:
    write_family(tmp_path, "phi3")  # 4 query heads and 2 key heads of 8, width 48
    whole = load_file(tmp_path / "model.safetensors")
    qkv, gate_up = (
        whole[f"{LAYER}{name}.weight"] for name in ("self_attn.qkv_proj", "mlp.gate_up_proj")
    )
    second = divide(tmp_path, 2)[1].read()
    for name, rows in {
        "self_attn.q_proj": qkv[16:32],
        "self_attn.k_proj": qkv[40:48],
        "self_attn.v_proj": qkv[56:64],
        "mlp.gate_proj": gate_up[24:48],
        "mlp.up_proj": gate_up[72:96],
    }.items():
        assert torch.equal(second[f"{LAYER}{name}.weight"], rows), name


GROUPED = {"bits": 4, "group_size": 32}
COMPRESSED: dict[str, Any] = {"quant_method": "compressed-tensors"}
PACKED = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}
FORMATS: dict[str, tuple[Packer, dict[str, Any]]] = {
    "gptq": (pack_gptq, {"quant_method": "gptq", **GROUPED, "sym": False}),
    "awq": (pack_awq, {"quant_method": "awq", **GROUPED, "zero_point": True}),
    "packed": (
        pack_compressed,
        {
            **COMPRESSED,
            "format": "pack-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": PACKED}},
        },
    ),
    "int8": (
        pack_int8,
        {
            **COMPRESSED,
            "format": "int-quantized",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
                }
            },
        },
    ),
}


@pytest.mark.parametrize(("pack", "config"), FORMATS.values(), ids=list(FORMATS))
def test_codes_scales_and_zeros_are_cut_alike(
    tmp_path: Path, pack: Packer, config: dict[str, Any]
) -> None:
    """Of every tensor with codes the shares lie side by side in one direction or are all of it."""
    recipe = Recipe(bits=8 if pack is pack_int8 else 4, group_size=32)
    folder = write_quantized(tmp_path, pack, recipe, config, SHAPE) / "quantized"
    whole, shares = load_file(folder / "model.safetensors"), [p.read() for p in divide(folder, 2)]
    for name, tensor in whole.items():
        mine = [share[name] for share in shares if name in share]
        if not mine:  # the order is left out where columns are cut
            assert name.endswith(("weight_shape", "o_proj.g_idx", "down_proj.g_idx"))
            continue
        options = [mine[0], torch.cat(mine), torch.cat(mine, dim=-1)]
        assert any(torch.equal(one, tensor) for one in options), name


def test_a_bias_that_only_the_checkpoint_has_is_added_once(tmp_path: Path) -> None:
    """Older GPTQ files have one for every product."""
    folder = write_quantized(tmp_path, pack_gptq, Recipe(), FORMATS["gptq"][1], SHAPE)
    spec, stored = read_spec(folder / "quantized"), read_headers(folder / "quantized")
    names = [f"{LAYER}self_attn.{name}.bias" for name in ("q_proj", "o_proj")]
    norm = stored["model.norm.weight"]  # as long as both biases are
    stored |= {name: replace(norm, name=name) for name in names}
    for rank in range(2):
        own = narrow_spec(spec, Share(rank, 2))
        shapes = {n: one.shape for n, one in narrow_checkpoint(spec, own, stored).items()}
        assert shapes[names[0]] == (32,)
        assert shapes.get(names[1]) == ((64,) if rank == 0 else None)


def test_groups_words_and_activation_order_are_not_cut(tmp_path: Path) -> None:
    config = FORMATS["gptq"][1]
    for name, recipe, message in (
        ("group", Recipe(group_size=64), r"would cut groups of 64 columns of .*\.down_proj"),
        ("order", Recipe(act_order=True), r"columns of .*\.o_proj are in activation order"),
    ):
        shape = replace(SHAPE, intermediate_size=192) if name == "group" else SHAPE
        given = {**config, "group_size": recipe.group_size}
        folder = write_quantized(tmp_path / name, pack_gptq, recipe, given, shape) / "quantized"
        with pytest.raises(ConfigInvalid, match=message):
            divide(folder, 2)
    shape = replace(SHAPE, intermediate_size=160, head_dim=4)
    folder = write_quantized(tmp_path / "w", pack_awq, Recipe(), FORMATS["awq"][1], shape)
    with pytest.raises(ConfigInvalid, match="would cut words of codes"):
        divide(folder / "quantized", 4)


@pytest.mark.parametrize(
    ("family", "ranks", "message"),
    [
        ("llama3", 3, "must divide num_attention_heads 4, was 3"),
        ("llama2", 8, "must divide num_attention_heads 4, was 8"),
        ("qwen2-moe", 16, "must divide num_attention_heads"),
    ],
)
def test_what_can_not_be_split_is_refused_by_name(
    tmp_path: Path, family: str, ranks: int, message: str
) -> None:
    write_family(tmp_path, family)
    with pytest.raises(ConfigInvalid, match=message):
        divide(tmp_path, ranks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "must divide `num_key_value_heads` 3 or be a multiple of it, was 2"),
        ({"intermediate_size": 49}, "must divide intermediate_size 49, was 2"),
    ],
)
def test_widths_that_do_not_divide_are_refused(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    spec = read_spec(write_checkpoint(tmp_path, SHAPE))
    with pytest.raises(ConfigInvalid, match=message):
        narrow_spec(replace(spec, **changes), Share(0, 2))  # type: ignore[arg-type]
