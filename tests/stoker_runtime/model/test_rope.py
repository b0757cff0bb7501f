"""Ropes in every spelling, and what is refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken
from stoker_runtime.fields import Fields
from stoker_runtime.model.rope import RopeSpec, parse_local_ropes, parse_one_rope

LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32}
LONG = {"type": "longrope", "short_factor": [1, 2, 3, 4], "long_factor": [5, 6, 7, 8]}
FACTORS: dict[str, Any] = {
    "factors": (1.0, 2.0, 3.0, 4.0),
    "long_factors": (5.0, 6.0, 7.0, 8.0),
    "long_max_position": 128,
}
PLAIN = RopeSpec(theta=1e4, dim=8)


def parse(config: dict[str, Any]) -> RopeSpec:
    return parse_one_rope(Fields({"max_position_embeddings": 128, **config}), 8)[0]


def spec(kind: Any, theta: float = 1e4, **fields: Any) -> RopeSpec:
    return RopeSpec(theta=theta, dim=8, kind=kind, **fields)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, PLAIN),
        ({"rope_scaling": None, "rope_theta": 5e5}, RopeSpec(theta=5e5, dim=8)),
        ({"rope_scaling": {"rope_type": "default"}}, PLAIN),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, PLAIN),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, spec("linear", factor=2.0)),
        (
            {"rope_scaling": LLAMA_3},
            spec("llama3", factor=8.0, original_max_position=64),
        ),
        (
            {"rope_parameters": {**LLAMA_3, "rope_theta": 5e5}},
            spec("llama3", 5e5, factor=8.0, original_max_position=64),
        ),
        ({"partial_rotary_factor": 0.5}, RopeSpec(theta=1e4, dim=4)),
        ({"rope_parameters": {"partial_rotary_factor": 0.25}}, RopeSpec(theta=1e4, dim=2)),
        (
            {"rope_scaling": YARN},
            spec(
                "yarn",
                factor=4.0,
                original_max_position=32,
                attention_factor=0.1 * math.log(4) + 1,
            ),
        ),
        (
            {"rope_scaling": YARN | {"attention_factor": 1.5, "truncate": False, "beta_fast": 16}},
            spec(
                "yarn",
                factor=4.0,
                original_max_position=32,
                attention_factor=1.5,
                truncate=False,
                beta_fast=16.0,
            ),
        ),
        (
            {"rope_scaling": LONG, "original_max_position_embeddings": 32},
            spec(
                "longrope",
                **FACTORS,
                original_max_position=32,
                attention_factor=math.sqrt(1 + math.log(4) / math.log(32)),
            ),
        ),
        (
            {"rope_scaling": LONG | {"type": "su"}, "original_max_position_embeddings": 128},
            spec("longrope", **FACTORS, original_max_position=128),
        ),
    ],
    ids=[
        "nothing",
        "theta",
        "default",
        "dynamic",
        "linear",
        "llama3",
        "new spelling",
        "partial",
        "new partial",
        "yarn",
        "yarn with everything",
        "longrope",
        "its old name",
    ],
)
def test_reads_rope_in_every_spelling(config: dict[str, Any], expected: RopeSpec) -> None:
    assert parse(config) == expected


def test_yarn_weighs_its_attention_factor() -> None:
    weighed = YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}
    found = parse({"rope_scaling": weighed}).attention_factor
    assert found == pytest.approx((0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (1e6, 1e4, 1.0)),
        ({"rope_theta": 5e5, "rope_local_base_freq": 2e4}, (5e5, 2e4, 1.0)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8}}, (1e6, 1e4, 8.0)),
        (
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 3e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 3e4},
                }
            },
            (3e6, 3e4, 8.0),
        ),
    ],
    ids=["nothing", "thetas", "old spelling", "new spelling"],
)
def test_local_layers_have_a_rope_of_their_own(
    config: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    far, near = parse_local_ropes(Fields(config), 8)
    assert (far.theta, near.theta, far.factor) == expected
    assert near.kind == "default"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_scaling": "linear"}, "`rope_scaling` must be an object, was 'linear'"),
        ({"rope_scaling": {"type": "linear"}}, "`rope_scaling.factor` .* is missing"),
        ({"rope_theta": "x"}, "`rope_theta` must be a number > 0, was 'x'"),
        (
            {"rope_parameters": LLAMA_3 | {"low_freq_factor": "x"}},
            "`rope_parameters.low_freq_factor` must be a number > 0, was 'x'",
        ),
        ({"partial_rotary_factor": 0.4}, "must be an even number from 2 to 8, was 3"),
        ({"partial_rotary_factor": 2}, "must be an even number from 2 to 8, was 16"),
        ({"rope_scaling": LONG}, "`rope_scaling.original_max_position_embeddings` .* is missing"),
        (
            {
                "rope_scaling": LONG | {"short_factor": [1, 2]},
                "original_max_position_embeddings": 9,
            },
            r"`rope_scaling.short_factor` must be a list of 4 numbers > 0, was \[1, 2\]",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_names_the_field_that_is_wrong(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointBroken, match=message):
        parse(config)


@pytest.mark.parametrize("kind", ["mrope", "proportional", "ntk", 3])
def test_refuses_a_stretch_by_name(kind: object) -> None:
    with pytest.raises(ArchitectureUnsupported, match=f"`rope_scaling.rope_type` {kind!r} is not"):
        parse({"rope_scaling": {"rope_type": kind}})
    with pytest.raises(ArchitectureUnsupported, match=f"`rope_scaling.type` {kind!r} is not"):
        parse({"rope_scaling": {"type": kind}})
