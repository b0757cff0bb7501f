"""Mixtures of experts as `config.json` describes them, checked and without torch.

Knows the fields of Mixtral, Qwen2-MoE and Qwen3-MoE; does not know tensors (`layers` computes them)
or their names (`layout`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.fields import Fields

ExpertNames = Literal["mixtral", "qwen"]
"""How a checkpoint names the tensors of experts."""
_MOST_EXPERTS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """The sparse MLPs of a model."""

    names: ExpertNames
    num_experts: int
    num_chosen: int
    """Experts per token."""
    intermediate_size: int
    """Of each."""
    normalizes: bool
    """The weights of the chosen ones are made to sum to 1."""
    shared_size: int = 0
    """Width of an expert that sees every token, behind a gate of its own; 0: none."""


def parse_experts(fields: Fields, names: ExpertNames) -> ExpertsSpec:
    """Read the numbers of a family that has experts."""
    is_mixtral = names == "mixtral"
    width = "intermediate_size" if is_mixtral else "moe_intermediate_size"
    shared = fields.value("shared_expert_intermediate_size")
    own, other = ("num_local_experts", "num_experts")[:: 1 if is_mixtral else -1]
    # transformers 5 writes Mixtral's name for Qwen too
    count = other if fields.value(own) is None and fields.value(other) else own
    spec = ExpertsSpec(
        names=names,
        num_experts=fields.size(count, most=_MOST_EXPERTS),
        num_chosen=fields.size("num_experts_per_tok"),
        intermediate_size=fields.size(width),
        normalizes=is_mixtral or fields.flag("norm_topk_prob"),
        shared_size=0 if shared is None else fields.size("shared_expert_intermediate_size"),
    )
    if spec.num_chosen > spec.num_experts:
        raise CheckpointBroken(
            "config.json: `num_experts_per_tok` must be ≤ the number of experts, "
            f"was {spec.num_chosen} > {spec.num_experts}"
        )
    return spec


def is_sparse(fields: Fields, index: int) -> bool:
    """Whether layer `index` has experts: all do, but for those that Qwen's fields except."""
    dense = fields.value("mlp_only_layers") or []
    if not isinstance(dense, list):
        raise fields.wrong("mlp_only_layers", "a list of layers", dense)
    return index not in dense and (index + 1) % fields.size("decoder_sparse_step", 1) == 0
