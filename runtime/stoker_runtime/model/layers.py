"""The parts of a decoder layer besides attention.

Knows weights as tensors handed in; does not know names, files or the cache. Plain objects, no
`nn.Module`: nothing is allocated or initialised, weights stay views of the blob that was read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.kernels.ops import Gate, Mixture
from stoker_runtime.kernels.reference import Angles
from stoker_runtime.model.rope import RopeSpec


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(silu(gate(x)) · up(x)), or with another function for silu."""

    gate_up: Linear
    down: Linear
    gate: Gate = reference.silu_and_multiply

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it."""
        return self.down(self.gate(self.gate_up(x)))


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """An expert that every token goes to: sigmoid(gate · x) · mlp(x)."""

    mlp: Mlp
    gate: torch.Tensor  # [1, hidden]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it."""
        return F.linear(x, self.gate).sigmoid() * self.mlp(x)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of MLPs: a router in float32 sends each token to a few (Shazeer et al. 2017)."""

    router: torch.Tensor  # [num_experts, hidden]
    mlps: tuple[Mlp, ...]
    num_chosen: int
    normalizes: bool
    """The weights of a token's experts sum to 1."""
    shared: SharedExpert | None = None
    together: Mixture | None = None
    """All MLPs at once, where the device has a way to do that."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply the experts that have tokens, each to all of its own at once."""
        scores = F.linear(x.float(), self.router.float()).softmax(dim=-1)
        weights, chosen = scores.topk(self.num_chosen, dim=-1)  # each [num_tokens, num_chosen]
        if self.normalizes:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        out = torch.zeros_like(x) if self.shared is None else self.shared(x)
        if self.together is not None:
            return out + self.together(x, weights, chosen)
        for expert in sorted(set(chosen.flatten().tolist())):
            rows, places = (chosen == expert).nonzero(as_tuple=True)
            made = self.mlps[expert](x[rows]) * weights[rows, places, None].to(x.dtype)
            out.index_add_(0, rows, made)
        return out


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: the angles of positions."""

    inv_freq: torch.Tensor  # [turned / 2]
    scale: float = 1.0
    """Of cosines and sines."""

    def angles(self, positions: torch.Tensor, dtype: torch.dtype) -> Angles:
        """Cosine and sine of every angle, computed in float32; positions: [num_tokens]."""
        angles = positions.to(torch.float32)[:, None, None] * self.inv_freq
        cos, sin = angles.cos(), angles.sin()
        if self.scale != 1.0:
            cos, sin = cos * self.scale, sin * self.scale
        return cos.to(dtype), sin.to(dtype)


def build_rope(spec: RopeSpec, device: torch.device) -> Rope:
    """The frequencies of the spec, stretched as it says."""
    exponents = torch.arange(0, spec.dim, 2, dtype=torch.float32) / spec.dim
    inv_freq = 1.0 / (spec.theta**exponents)
    match spec.kind:
        case "linear":
            inv_freq = inv_freq / spec.factor
        case "llama3":
            inv_freq = _stretch_llama3(inv_freq, spec)
        case "yarn":
            inv_freq = _stretch_yarn(inv_freq, spec)
        case "longrope":
            inv_freq = inv_freq / torch.tensor(spec.factors, dtype=torch.float32)
        case "default":
            pass
    return Rope(inv_freq.to(device), spec.attention_factor)


def _stretch_llama3(inv_freq: torch.Tensor, spec: RopeSpec) -> torch.Tensor:
    """Divide the frequencies of long waves, with a ramp to the short ones.

    With an original length of 8192 and factors 1 and 4, waves longer than 8192 tokens are divided,
    waves shorter than 2048 are kept.
    """
    turns = spec.original_max_position * inv_freq / (2 * math.pi)
    ramp = (turns - spec.low_freq_factor) / (spec.high_freq_factor - spec.low_freq_factor)
    keep = ramp.clamp(0.0, 1.0)
    return (1 - keep) * inv_freq / spec.factor + keep * inv_freq


def _stretch_yarn(inv_freq: torch.Tensor, spec: RopeSpec) -> torch.Tensor:
    """Divide frequencies with few turns, with a ramp over the pairs in between (Peng et al. 2023).

    Pair i of a head of d turns L · theta^(-2i/d) / 2π times within L tokens; solved for i at
    `beta_fast` and `beta_slow` turns, that gives the ends of the ramp.
    """

    def pair_of(turns: float) -> float:
        waves = spec.original_max_position / (turns * 2 * math.pi)
        return spec.dim * math.log(waves) / (2 * math.log(spec.theta))

    low, high = pair_of(spec.beta_fast), pair_of(spec.beta_slow)
    if spec.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.dim - 1)
    pairs = torch.arange(len(inv_freq), dtype=torch.float32)
    divide = ((pairs - low) / max(high - low, 0.001)).clamp(0.0, 1.0)
    return divide * inv_freq / spec.factor + (1 - divide) * inv_freq
