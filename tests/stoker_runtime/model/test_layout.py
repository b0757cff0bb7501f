"""The layout names every tensor of a checkpoint once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stoker_runtime.model.layout import Fused, Part, ignored_names, plan_layout
from stoker_runtime.model.spec import read_spec
from support.checkpoints import LlamaShape, tensor_shapes, write_checkpoint


@pytest.mark.parametrize(
    "shape",
    [
        LlamaShape(),
        LlamaShape(tie_word_embeddings=False),
        LlamaShape(attention_bias=True, mlp_bias=True, num_hidden_layers=3),
    ],
    ids=["tied", "untied", "biases"],
)
def test_parts_are_the_checkpoints_tensors(tmp_path: Path, shape: LlamaShape) -> None:
    layout = plan_layout(read_spec(write_checkpoint(tmp_path, shape)))
    parts = [part for fused in layout for part in fused.parts]
    assert {part.name: part.shape for part in parts} == tensor_shapes(shape)
    assert len(parts) == len({part.name for part in parts})


def test_fused_tensors_stack_their_parts(tmp_path: Path) -> None:
    layout = {one.name: one for one in plan_layout(read_spec(write_checkpoint(tmp_path)))}
    assert layout["layers.0.qkv.weight"].shape == (64 + 32 + 32, 64)
    assert layout["layers.1.gate_up.weight"].shape == (256, 64)
    assert [part.name.split(".")[-2] for part in layout["layers.0.qkv.weight"].parts] == [
        "q_proj",
        "k_proj",
        "v_proj",
    ]


def test_counts_elements() -> None:
    fused = Fused("x", (Part("a", (2, 3)), Part("b", (5, 3))))
    assert [part.num_elements for part in fused.parts] == [6, 15]
    assert fused.shape == (7, 3)


def test_a_tied_head_may_be_there_and_an_untied_one_must(tmp_path: Path) -> None:
    spec = read_spec(write_checkpoint(tmp_path))
    assert "lm_head.weight" in ignored_names(spec)
    assert "lm_head.weight" not in ignored_names(replace(spec, tied_embeddings=False))
