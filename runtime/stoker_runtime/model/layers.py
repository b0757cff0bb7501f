"""The parts of a decoder layer besides attention.

Knows weights as tensors handed in; does not know names, files or the cache. Plain objects, no
`nn.Module`: nothing is allocated or initialised, weights stay views of the blob that was read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.model.spec import ModelSpec, RopeScaling


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Scale to unit root mean square, then by the weight."""

    weight: torch.Tensor  # [hidden]
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it."""
        return reference.rms_norm(x, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(silu(gate(x)) · up(x))."""

    gate_up: Linear
    down: Linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it."""
        return self.down(reference.silu_and_multiply(self.gate_up(x)))


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: the angles of positions."""

    inv_freq: torch.Tensor  # [head_dim / 2]

    def angles(
        self, positions: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:  # each [num_tokens, 1, head_dim / 2]
        """Cosine and sine of every angle, computed in float32; positions: [num_tokens]."""
        angles = positions.to(torch.float32)[:, None, None] * self.inv_freq
        return angles.cos().to(dtype), angles.sin().to(dtype)


def build_rope(spec: ModelSpec, device: torch.device) -> Rope:
    """The frequencies of the spec, scaled as it says."""
    exponents = torch.arange(0, spec.head_dim, 2, dtype=torch.float32) / spec.head_dim
    inv_freq = 1.0 / (spec.rope_theta**exponents)
    if spec.rope_scaling is not None:
        inv_freq = _scale(inv_freq, spec.rope_scaling)
    return Rope(inv_freq.to(device))


def _scale(inv_freq: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Linear divides all frequencies; Llama 3 those of long waves, with a ramp to the short ones.

    With an original length of 8192 and factors 1 and 4, waves longer than 8192 tokens are divided,
    waves shorter than 2048 are kept.
    """
    if scaling.kind == "linear":
        return inv_freq / scaling.factor
    turns = scaling.original_max_position * inv_freq / (2 * math.pi)
    ramp = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = ramp.clamp(0.0, 1.0)
    return (1 - keep) * inv_freq / scaling.factor + keep * inv_freq
