"""The fields of mixtures of experts, in the families' spellings."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.fields import Fields
from stoker_runtime.model.experts import ExpertsSpec, is_sparse, parse_experts

QWEN = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MIXTRAL = {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 48}


def test_mixtral_normalises_always() -> None:
    assert parse_experts(Fields(MIXTRAL), "mixtral") == ExpertsSpec(
        names="mixtral", num_experts=8, num_chosen=2, intermediate_size=48, normalizes=True
    )


@pytest.mark.parametrize("count", ["num_experts", "num_local_experts"])
def test_qwen_says_whether_it_normalises_and_shares(count: str) -> None:
    config = {**QWEN, "num_experts": None, count: 8, "shared_expert_intermediate_size": 40}
    assert parse_experts(Fields(config), "qwen") == ExpertsSpec(
        names="qwen",
        num_experts=8,
        num_chosen=2,
        intermediate_size=24,
        normalizes=False,
        shared_size=40,
    )
    assert parse_experts(Fields({**QWEN, "norm_topk_prob": True}), "qwen").normalizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": None}, "`num_experts` must be a whole number ≥ 1, is missing"),
        ({"num_experts_per_tok": 9}, "`num_experts_per_tok` must be ≤ .*, was 9 > 8"),
        ({"moe_intermediate_size": 0}, "`moe_intermediate_size` .* was 0"),
        ({"norm_topk_prob": "yes"}, "`norm_topk_prob` must be true or false, was 'yes'"),
        ({"shared_expert_intermediate_size": -1}, "`shared_expert_intermediate_size` .* was -1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_names_the_field_that_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointBroken, match=message):
        parse_experts(Fields(QWEN | changes), "qwen")


@pytest.mark.parametrize(
    ("config", "sparse"),
    [
        ({}, [True] * 4),
        ({"decoder_sparse_step": 2}, [False, True, False, True]),
        ({"mlp_only_layers": [0, 3]}, [False, True, True, False]),
        ({"mlp_only_layers": None, "decoder_sparse_step": 4}, [False, False, False, True]),
    ],
    ids=str,
)
def test_some_layers_may_be_dense(config: dict[str, Any], sparse: list[bool]) -> None:
    assert [is_sparse(Fields(config), index) for index in range(4)] == sparse


def test_a_list_of_dense_layers_must_be_one() -> None:
    with pytest.raises(CheckpointBroken, match="`mlp_only_layers` must be a list of layers, was 3"):
        is_sparse(Fields({"mlp_only_layers": 3}), 0)
