"""Random numbers that are a function of a seed and an index, and of nothing else.

Knows SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014);
does not know what is drawn with them. Used by the sampler.
"""

from __future__ import annotations

import torch

_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK_64 = (1 << 64) - 1
_BITS = 52


def uniform(seed: int, index: int) -> float:
    """The `index`-th random number in [0, 1) of a seed; what `uniforms` does, in plain words."""
    return (_mix(_mix(seed & _MASK_64) ^ index) >> (64 - _BITS)) / (1 << _BITS)


def uniforms(seeds: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:  # [num_rows] float64
    """`uniform` of each seed with its index; both [num_rows] int64."""
    mixed = _mix_all(_mix_all(seeds) ^ indices)
    return _shift(mixed, 64 - _BITS).double() / (1 << _BITS)


def _mix(value: int) -> int:
    value = (value + _STEP) & _MASK_64
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK_64
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK_64
    return value ^ (value >> 31)


def _mix_all(values: torch.Tensor) -> torch.Tensor:
    values = values + (_STEP - (1 << 64))  # torch's integers are signed and wrap
    values = (values ^ _shift(values, 30)) * (_FIRST - (1 << 64))
    values = (values ^ _shift(values, 27)) * (_SECOND - (1 << 64))
    return values ^ _shift(values, 31)


def _shift(values: torch.Tensor, bits: int) -> torch.Tensor:
    """To the right, zeros from the left."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
