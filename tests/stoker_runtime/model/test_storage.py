"""Quantised products are looked for under the names of their format, the others under their own."""

from __future__ import annotations

from pathlib import Path

from stoker_runtime.model.layout import plan_layout
from stoker_runtime.model.spec import read_spec
from stoker_runtime.model.storage import plan_storage
from stoker_runtime.quant.spec import parse_quantization
from support.checkpoints import write_checkpoint

GPTQ = parse_quantization({"quant_method": "gptq", "bits": 4, "group_size": 32})
ATTN = "model.layers.0.self_attn"


def test_without_quantisation_nothing_changes(tmp_path: Path) -> None:
    layout = plan_layout(read_spec(write_checkpoint(tmp_path)))
    assert plan_storage(layout, None, ()) == layout


def test_what_is_stored_decides_product_by_product(tmp_path: Path) -> None:
    layout = plan_layout(read_spec(write_checkpoint(tmp_path)))
    stored = {f"{ATTN}.q_proj.qweight", f"{ATTN}.v_proj.qweight", f"{ATTN}.v_proj.g_idx"}
    plan = {fused.name: fused for fused in plan_storage(layout, GPTQ, stored)}
    names = [
        [part.name for part in plan[f"layers.0.qkv.{leaf}"].parts]
        for leaf in ("qweight", "g_idx", "weight")
    ]
    assert names == [
        [f"{ATTN}.q_proj.qweight", f"{ATTN}.v_proj.qweight"],
        [f"{ATTN}.v_proj.g_idx"],
        [f"{ATTN}.k_proj.weight"],
    ]
    assert plan["layers.0.qkv.qweight"].parts[0].shape == (8, 64)
    assert plan["layers.0.qkv.qweight"].parts[0].kind == "int32"
    assert plan["layers.0.out.weight"] in layout


def test_a_bias_that_the_network_does_not_ask_for_is_read_too(tmp_path: Path) -> None:
    layout = plan_layout(read_spec(write_checkpoint(tmp_path)))
    stored = {f"{ATTN}.o_proj.qweight", f"{ATTN}.o_proj.bias"}
    plan = {fused.name: fused for fused in plan_storage(layout, GPTQ, stored)}
    (part,) = plan["layers.0.out.extra_bias"].parts
    assert (part.name, part.shape, part.kind) == (f"{ATTN}.o_proj.bias", (64,), "float")
