"""Rotary frequencies against transformers', the other layers against their formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker_runtime.kernels.linear import DenseLinear
from stoker_runtime.model.layers import Mlp, RmsNorm, build_rope
from stoker_runtime.model.rope import RopeSpec
from stoker_runtime.model.spec import read_spec
from support.checkpoints import LlamaShape, build_config

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def read(folder: Path, **fields: Any) -> RopeSpec:
    shape = LlamaShape(head_dim=64, max_position_embeddings=131072, **fields)
    (folder / "config.json").write_text(json.dumps(build_config(shape)))
    return read_spec(folder).ropes[0]


@pytest.mark.parametrize(
    ("theta", "scaling"),
    [(1e4, None), (5e5, LLAMA3), (1e4, {"rope_type": "linear", "factor": 4.0})],
    ids=["plain", "llama3", "linear"],
)
def test_frequencies_are_those_of_transformers(
    tmp_path: Path, theta: float, scaling: dict[str, Any] | None
) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    spec = read(tmp_path, rope_theta=theta, rope_scaling=scaling)
    theirs = LlamaRotaryEmbedding(LlamaConfig.from_pretrained(tmp_path))
    rope = build_rope(spec, CPU)
    torch.testing.assert_close(rope.inv_freq, theirs.inv_freq, rtol=1e-6, atol=0)
    positions = torch.tensor([0, 1, 77, 8191, 100_000])
    cos, sin = rope.angles(positions, torch.float32)
    expected_cos, expected_sin = theirs(torch.zeros(1), positions[None])
    torch.testing.assert_close(cos[:, 0], expected_cos[0, :, :32], atol=1e-2, rtol=0)
    torch.testing.assert_close(sin[:4, 0], expected_sin[0, :4, :32], atol=1e-3, rtol=0)


def test_angles_are_computed_in_float32_and_rounded_once(tmp_path: Path) -> None:
    rope = build_rope(read(tmp_path), CPU)
    cos, _ = rope.angles(torch.tensor([1000]), torch.bfloat16)
    exact, _ = rope.angles(torch.tensor([1000]), torch.float32)
    assert torch.equal(cos, exact.to(torch.bfloat16))


def test_linear_with_and_without_bias() -> None:
    weight, bias, x = torch.randn(3, 5), torch.randn(3), torch.randn(2, 5)
    torch.testing.assert_close(DenseLinear(weight)(x), x @ weight.T)
    torch.testing.assert_close(DenseLinear(weight, bias)(x), x @ weight.T + bias)


def test_mlp_gates_its_input() -> None:
    gate_up, down, x = torch.randn(8, 5), torch.randn(5, 4), torch.randn(2, 5)
    gate, up = x @ gate_up[:4].T, x @ gate_up[4:].T
    expected = (gate * gate.sigmoid() * up) @ down.T
    torch.testing.assert_close(Mlp(DenseLinear(gate_up), DenseLinear(down))(x), expected)


def test_norm_scales_by_its_weight() -> None:
    x = torch.full((1, 4), 3.0)
    norm = RmsNorm(torch.tensor([1.0, 2.0, 0.0, -1.0]), 0.0)
    torch.testing.assert_close(norm(x), torch.tensor([[1.0, 2.0, 0.0, -1.0]]))
