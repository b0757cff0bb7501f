"""Which inputs of a product deserve finer steps: factors for its columns.

The method is AWQ (Lin, Tang, Tang, Yang, Dang, Han 2023, arXiv 2306.00978): a column that meets
large inputs is multiplied by s > 1 before rounding, and whatever makes these inputs is divided by
s, so that its rounding error counts less. s is the inputs' size to a power that is searched. The
error is computed from second moments, which takes the place of keeping the inputs. Knows one
product; does not know what makes its inputs (`engine/folding` does).
"""

from __future__ import annotations

import math

import torch

from stoker_runtime.quant.gptq import round_nearest
from stoker_runtime.quant.pack import Scheme

_POWERS = tuple(step / 10 for step in range(10))
"""Exponents that are tried; 0 changes nothing."""


def search_factors(
    weight: torch.Tensor, moments: torch.Tensor, scheme: Scheme, heads: tuple[int, int] = (1, 1)
) -> torch.Tensor:  # [in]
    """Factors of the columns with the least error of the outputs; all 1 if none helps.

    weight: [out, in] float32; moments: [in, in], the sum of x · xᵀ over the inputs x. Columns lie
    as [*heads, n], and those that differ in the second place only get one factor: the query heads
    of one value head read the same values.
    """
    sizes = _sizes(moments, heads)
    best, least = torch.ones_like(sizes), math.inf
    for power in _POWERS:
        factors = sizes.pow(power)
        factors = factors / (factors.max() * factors.min()).sqrt()
        error = _error(weight, moments, scheme, factors)
        if error < least:
            best, least = factors, error
    return best


def _sizes(moments: torch.Tensor, heads: tuple[int, int]) -> torch.Tensor:
    """Of each input: the root of its mean square, up to a constant."""
    squares = moments.diagonal().view(*heads, -1)
    sizes = squares.mean(1, keepdim=True).expand_as(squares).flatten().sqrt()
    return sizes.clamp(min=float(sizes.max()) * 1e-4 or 1.0)


def _error(
    weight: torch.Tensor, moments: torch.Tensor, scheme: Scheme, factors: torch.Tensor
) -> float:
    scaled = round_nearest(
        weight * factors, scheme, torch.float32, moments.diagonal() / factors.square()
    )
    change = scaled.weight / factors - weight  # [out, in]
    return float(((change @ moments) * change).sum())
