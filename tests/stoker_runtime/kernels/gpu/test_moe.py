"""Mixtures of experts, interpreted, beside torch token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stoker_runtime.kernels.gpu.linear import pack_linear
from stoker_runtime.kernels.gpu.moe import Mixture, group_experts, route
from stoker_runtime.kernels.linear import DenseLinear, GroupedLinear, Int8Linear, Linear
from stoker_runtime.kernels.reference import silu_and_multiply
from stoker_runtime.model.layers import Experts, Mlp
from support import twins
from support.gpu import EXACT, assert_near

HIDDEN, INNER = 48, 32


def make_linear(kind: str, rows: int, cols: int) -> Linear:
    match kind:
        case "dense":
            return DenseLinear(torch.randn(rows, cols, dtype=EXACT) / 8)
        case "int8":
            codes = torch.randint(-128, 128, (rows, cols), dtype=torch.int8)
            return pack_linear(Int8Linear(codes, torch.rand(rows).half().float() / 512))
        case _:
            codes = torch.randint(0, 16, (rows, cols), dtype=torch.uint8)
            scales = torch.rand(rows, cols // 32).half().float() / 32
            return pack_linear(GroupedLinear(codes, scales, torch.full_like(scales, 8), 32, bits=4))


def make_mixture(kind: str, num_experts: int, hidden: int = HIDDEN) -> Mixture:
    ups = [make_linear(kind, 2 * INNER, hidden) for _ in range(num_experts)]
    downs = [make_linear(kind, hidden, INNER) for _ in range(num_experts)]
    mixture = group_experts(ups, downs, silu_and_multiply)
    assert mixture is not None
    return mixture


@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "num_chosen"), [(1, 4, 2), (18, 2, 1)], ids=str
)
@pytest.mark.parametrize("kind", ["dense", "int8", "int4"])
def test_every_token_meets_its_experts(
    kind: str, num_tokens: int, num_experts: int, num_chosen: int
) -> None:
    torch.manual_seed(num_tokens)
    mixture = make_mixture(kind, num_experts, HIDDEN if kind == "dense" else 64)
    x = torch.randn(num_tokens, mixture.gate_up.num_cols, dtype=EXACT)
    weights, chosen = torch.randn(num_tokens, num_experts).softmax(-1).topk(num_chosen)
    expected = twins.mix(x, mixture, weights, chosen)
    assert_near(mixture(x, weights, chosen), expected)


def test_pairs_are_sorted_and_cut_into_tiles() -> None:
    chosen = torch.tensor([[1, 0], [1, 3], [1, 0]])
    routes = route(chosen, 4)
    assert routes.pairs.tolist() == [1, 5, 0, 2, 4, 3]
    assert routes.tiles.tolist()[:3] == [[0, 0, 2], [1, 2, 5], [3, 5, 6]]
    assert all(first >= last for _, first, last in routes.tiles.tolist()[3:])


@pytest.mark.parametrize("num_tokens", [1, 16, 300])
def test_tiles_cover_every_pair_once(num_tokens: int) -> None:
    torch.manual_seed(num_tokens)
    chosen = torch.stack([torch.randperm(6)[:3] for _ in range(num_tokens)])
    routes = route(chosen, 6)
    covered = [pair for _, first, last in routes.tiles.tolist() for pair in range(first, last)]
    assert sorted(covered) == list(range(chosen.numel()))
    flat = chosen.flatten()
    for expert, first, last in routes.tiles.tolist():
        assert last - first <= routes.block_m
        assert all(flat[pair] == expert for pair in routes.pairs[first:last].tolist())


def test_experts_that_differ_stay_apart() -> None:
    ups = [make_linear("dense", 64, 64), make_linear("int4", 64, 64)]
    assert group_experts(ups, ups, silu_and_multiply) is None


def test_a_layer_computes_its_experts_together() -> None:
    torch.manual_seed(0)
    ups = [make_linear("dense", 2 * INNER, HIDDEN) for _ in range(3)]
    downs = [make_linear("dense", HIDDEN, INNER) for _ in range(3)]
    mlps = tuple(Mlp(up, down) for up, down in zip(ups, downs, strict=True))
    apart = Experts(torch.randn(3, HIDDEN, dtype=EXACT), mlps, num_chosen=2, normalizes=True)
    together = replace(apart, together=group_experts(ups, downs, silu_and_multiply))
    x = torch.randn(3, HIDDEN, dtype=EXACT)
    assert_near(together(x), apart(x))
