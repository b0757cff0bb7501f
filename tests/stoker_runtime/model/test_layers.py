"""Rotary frequencies against transformers', the other layers against their formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.linear import DenseLinear
from stoker_runtime.model.layers import Experts, Mlp, SharedExpert, build_rope
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
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1 + i / 32 for i in range(32)],
    "long_factor": [1 + i for i in range(32)],
    "original_max_position_embeddings": 131072,
    "factor": 8.0,
}


def read(folder: Path, **fields: Any) -> RopeSpec:
    shape = LlamaShape(head_dim=64, max_position_embeddings=131072, **fields)
    (folder / "config.json").write_text(json.dumps(build_config(shape)))
    return read_spec(folder).ropes[0]


@pytest.mark.parametrize(
    ("theta", "scaling"),
    [
        (1e4, None),
        (5e5, LLAMA3),
        (1e4, {"rope_type": "linear", "factor": 4.0}),
        (1e6, YARN),
        (1e4, YARN | {"truncate": False, "beta_fast": 16.0, "attention_factor": 1.25}),
        (1e4, LONG),
    ],
    ids=["plain", "llama3", "linear", "yarn", "yarn untruncated", "longrope"],
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


def make_mlps(count: int) -> tuple[Mlp, ...]:
    return tuple(
        Mlp(DenseLinear(torch.randn(12, 8)), DenseLinear(torch.randn(8, 6))) for _ in range(count)
    )


@pytest.mark.parametrize("normalizes", [True, False], ids=["to one", "as they are"])
@pytest.mark.parametrize("num_tokens", [1, 2, 9])
def test_each_token_gets_the_weighted_sum_of_its_experts(normalizes: bool, num_tokens: int) -> None:
    torch.manual_seed(num_tokens)
    x, router, mlps = torch.randn(num_tokens, 8), torch.randn(5, 8), make_mlps(5)
    made = Experts(router, mlps, num_chosen=2, normalizes=normalizes)(x)
    for row, token in zip(made, x, strict=True):
        scores = (router @ token).softmax(0)
        best = sorted(range(5), key=lambda expert: -scores[expert])[:2]
        total = sum(scores[best]) if normalizes else 1.0
        expected = sum(scores[e] / total * mlps[e](token[None])[0] for e in best)
        torch.testing.assert_close(row, expected)


def test_only_experts_with_tokens_are_computed() -> None:
    class Unwanted:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("nobody was sent here")

    x = torch.tensor([[1.0, 0.0], [2.0, 0.5]])
    router = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    wanted = Mlp(DenseLinear(torch.eye(2).repeat(2, 1)), DenseLinear(torch.eye(2)))
    experts = Experts(router, (Mlp(Unwanted(), Unwanted()), wanted), 1, normalizes=True)
    torch.testing.assert_close(experts(x), wanted(x))


def test_a_shared_expert_sees_every_token_through_its_gate() -> None:
    x, router, gate = torch.randn(4, 8), torch.randn(3, 8), torch.randn(1, 8)
    mlps, (shared,) = make_mlps(3), make_mlps(1)
    alone = Experts(router, mlps, 1, normalizes=False)(x)
    both = Experts(router, mlps, 1, normalizes=False, shared=SharedExpert(shared, gate))(x)
    torch.testing.assert_close(both - alone, (x @ gate.T).sigmoid() * shared(x))


def test_another_gate_can_take_the_place_of_silu() -> None:
    gate_up, down, x = torch.randn(8, 5), torch.randn(5, 4), torch.randn(2, 5)
    mlp = Mlp(DenseLinear(gate_up), DenseLinear(down), reference.gelu_and_multiply)
    gate, up = x @ gate_up[:4].T, x @ gate_up[4:].T
    gelu = 0.5 * gate * (1 + torch.tanh((2 / math.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
    torch.testing.assert_close(mlp(x), (gelu * up) @ down.T)
