"""Rotary position embedding as `config.json` describes it, checked and without torch.

Knows the old spelling (`rope_theta`, `rope_scaling`), the new one (`rope_parameters`) and the ways
of stretching; does not know tensors: `layers` makes frequencies of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.fields import Fields

Stretch = Literal["default", "linear", "llama3", "yarn", "longrope"]
_KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
GLOBAL, LOCAL = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """How positions become angles, and how these are stretched beyond the trained length."""

    theta: float
    dim: int
    """Leading entries of each head that are turned; the others stay as they are."""
    kind: Stretch = "default"
    factor: float = 1.0
    original_max_position: int = 0
    """Positions it was trained with; 0 where that does not matter."""
    low_freq_factor: float = 1.0
    """Llama 3: waves longer than the trained length by this are divided."""
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    """YaRN: waves with more turns than this within the trained length are kept."""
    beta_slow: float = 1.0
    truncate: bool = True
    """YaRN: round the bounds of its ramp to whole pairs."""
    factors: tuple[float, ...] = ()
    """LongRoPE: the divisor of each frequency, [dim / 2]."""
    long_factors: tuple[float, ...] = ()
    """Those for sequences longer than it was trained with."""
    long_max_position: int = 0
    """And how long these may be."""
    attention_factor: float = 1.0
    """Cosines and sines are multiplied by it."""


def parse_one_rope(fields: Fields, head_dim: int) -> tuple[RopeSpec, ...]:
    """The one rope that most models have."""
    name = "rope_parameters" if fields.value("rope_parameters") else "rope_scaling"
    rope = fields.child(name)
    theta = _parse_theta(rope, fields.number("rope_theta", 10000.0))
    share = rope.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0))
    dim = int(head_dim * share)
    if dim % 2 or not 2 <= dim <= head_dim:
        raise CheckpointBroken(
            f"config.json: `partial_rotary_factor` {share:g} of a head of {head_dim} must be "
            f"an even number from 2 to {head_dim}, was {dim}"
        )
    return (_parse_stretch(fields, rope, theta, dim),)


def parse_local_ropes(fields: Fields, head_dim: int) -> tuple[RopeSpec, ...]:
    """Gemma 3: one rope for layers that see everything, one for those with a window."""
    parameters = fields.child("rope_parameters")
    if parameters.value(GLOBAL) or parameters.value(LOCAL):
        far, near = parameters.child(GLOBAL), parameters.child(LOCAL)
    else:
        far, near = fields.child("rope_scaling"), Fields({})
    far_theta = _parse_theta(far, fields.number("rope_theta", 1e6))
    near_theta = _parse_theta(near, fields.number("rope_local_base_freq", 1e4))
    return (
        _parse_stretch(fields, far, far_theta, head_dim),
        _parse_stretch(fields, near, near_theta, head_dim),
    )


def _parse_theta(rope: Fields, default: float) -> float:
    theta = rope.number("rope_theta", default)
    if theta <= 1:
        raise rope.wrong("rope_theta", "a number > 1", theta)
    return theta


def _parse_stretch(fields: Fields, rope: Fields, theta: float, dim: int) -> RopeSpec:
    spelling = "rope_type" if rope.value("rope_type") or not rope.value("type") else "type"
    kind = rope.value(spelling) or "default"
    match "longrope" if kind == "su" else kind:
        case "default" | "dynamic":  # dynamic stretches beyond `max_position_embeddings` only
            return RopeSpec(theta=theta, dim=dim)
        case "linear":
            return RopeSpec(theta=theta, dim=dim, kind="linear", factor=rope.number("factor"))
        case "llama3":
            return RopeSpec(
                theta=theta,
                dim=dim,
                kind="llama3",
                factor=rope.number("factor"),
                low_freq_factor=rope.number("low_freq_factor"),
                high_freq_factor=rope.number("high_freq_factor"),
                original_max_position=rope.size("original_max_position_embeddings"),
            )
        case "yarn":
            return _parse_yarn(fields, rope, theta, dim)
        case "longrope":
            return _parse_longrope(fields, rope, theta, dim)
        case _:
            raise rope.unsupported(spelling, kind, _KINDS)


def _parse_yarn(fields: Fields, rope: Fields, theta: float, dim: int) -> RopeSpec:
    length = fields.size("max_position_embeddings", 2048)
    original = rope.size("original_max_position_embeddings", length)
    factor = rope.number("factor", length / original)
    truncate = rope.value("truncate")
    return RopeSpec(
        theta=theta,
        dim=dim,
        kind="yarn",
        factor=factor,
        original_max_position=original,
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        truncate=True if truncate is None else rope.flag("truncate"),
        attention_factor=rope.maybe_number("attention_factor") or _yarn_scale(rope, factor),
    )


def _yarn_scale(rope: Fields, factor: float) -> float:
    """0.1 · ln(factor) + 1, as YaRN recommends (Peng et al. 2023, §3.4)."""

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    some, all_of = rope.maybe_number("mscale"), rope.maybe_number("mscale_all_dim")
    return scale(some) / scale(all_of) if some and all_of else scale(1.0)


def _parse_longrope(fields: Fields, rope: Fields, theta: float, dim: int) -> RopeSpec:
    """With the short factors, until somebody asks for longer sequences than it was trained with."""
    length = fields.size("max_position_embeddings", 2048)
    trained = fields.value("original_max_position_embeddings")
    original = rope.size("original_max_position_embeddings", trained)
    factor = rope.number("factor", length / original)
    growth = math.log(max(factor, 1.0)) / math.log(max(original, 2))
    return RopeSpec(
        theta=theta,
        dim=dim,
        kind="longrope",
        factors=rope.numbers("short_factor", dim // 2),
        long_factors=rope.numbers("long_factor", dim // 2),
        long_max_position=length,
        original_max_position=original,
        attention_factor=rope.number("attention_factor", math.sqrt(1 + growth)),
    )
