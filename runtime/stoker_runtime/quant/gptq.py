"""Rounds a product's weight so that its outputs, not its weights, change least.

The method is GPTQ (Frantar, Ashkboos, Hoefler, Alistarh 2022, arXiv 2210.17323): columns are
rounded one after the other, and what each loses is made good by those still to come, as far as the
inputs seen in calibration allow. Knows one matrix and the second moments of its inputs; does not
know models. Called by `engine/compression`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stoker_runtime.quant.pack import Scheme
from stoker_runtime.quant.rounding import Grid, search_grid

_DAMPING = 0.01
"""Of the mean second moment, added to all: keeps inputs that were never seen invertible."""
_BLOCK = 64
"""Columns whose corrections are applied at once to all later ones."""


@dataclass(frozen=True, slots=True)
class Codes:
    """A rounded weight."""

    codes: torch.Tensor  # [out, in] uint8
    scales: torch.Tensor  # [out, groups]
    zeros: torch.Tensor  # [out, groups]

    @property
    def weight(self) -> torch.Tensor:  # [out, in] float32
        """What the codes stand for."""
        grouped = self.codes.view(*self.scales.shape, -1).float()
        scales, zeros = self.scales.float()[..., None], self.zeros.float()[..., None]
        return ((grouped - zeros) * scales).flatten(1)


def round_nearest(
    weight: torch.Tensor, scheme: Scheme, dtype: torch.dtype, importance: torch.Tensor | None = None
) -> Codes:
    """Each weight for itself, on the grid that suits its group best.

    weight: [out, in] float32; dtype: of the scales; importance: [in], how much errors count.
    """
    grid = _fit(weight, scheme, dtype, importance)
    size = scheme.groups_of(weight.shape[1])
    codes = grid.round(weight.view(len(weight), -1, size)).to(torch.uint8)
    return Codes(codes.flatten(1), grid.scales[..., 0].to(dtype), grid.zeros[..., 0])


def round_gptq(
    weight: torch.Tensor, moments: torch.Tensor, scheme: Scheme, dtype: torch.dtype
) -> Codes:
    """Columns in the order of their inputs' size, each group's grid fixed beforehand.

    weight: [out, in] float32; moments: [in, in], the sum of x · xᵀ over the inputs x.
    """
    columns = weight.shape[1]
    diagonal = moments.diagonal().clone()
    grid = _fit(weight, scheme, dtype, diagonal)
    group_of = torch.arange(columns) // scheme.groups_of(columns)
    scales = grid.scales[..., 0][:, group_of]  # [out, in]
    zeros = grid.zeros[..., 0][:, group_of]
    order = diagonal.argsort(descending=True)
    inverse = _inverse_root(moments[order][:, order])
    codes = _round_in_order(
        weight[:, order].clone(), inverse, Grid(scales[:, order], zeros[:, order], scheme.bits)
    )
    back = order.argsort()
    return Codes(codes[:, back], grid.scales[..., 0].to(dtype), grid.zeros[..., 0])


def _fit(
    weight: torch.Tensor, scheme: Scheme, dtype: torch.dtype, importance: torch.Tensor | None
) -> Grid:
    size = scheme.groups_of(weight.shape[1])
    values = weight.view(len(weight), -1, size)
    counts = None if importance is None else importance.view(1, -1, size)
    grid = search_grid(values, scheme.bits, symmetric=scheme.symmetric, weights=counts)
    return Grid(grid.scales.to(dtype).float(), grid.zeros, grid.bits)


def _inverse_root(moments: torch.Tensor) -> torch.Tensor:  # [in, in] upper triangular
    """U with Uᵀ · U the inverse of the damped moments."""
    damped = moments.clone()
    mean = damped.diagonal().mean().clamp(min=1e-8)
    damped.diagonal().add_(_DAMPING * mean)
    root = torch.linalg.cholesky(damped.double())
    inverse = torch.cholesky_inverse(root)
    upper: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper.float()


def _round_in_order(rest: torch.Tensor, inverse: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Codes of `rest` [out, in], which is used up."""
    codes = torch.empty(rest.shape, dtype=torch.uint8)
    for start in range(0, rest.shape[1], _BLOCK):
        end = min(start + _BLOCK, rest.shape[1])
        lost = torch.empty(len(rest), end - start)
        for column in range(start, end):
            one = Grid(grid.scales[:, column], grid.zeros[:, column], grid.bits)
            rounded = one.round(rest[:, column])
            codes[:, column] = rounded.to(torch.uint8)
            error = (rest[:, column] - one.restore(rounded)) / inverse[column, column]
            lost[:, column - start] = error
            rest[:, column:end] -= error[:, None] * inverse[None, column, column:end]
        rest[:, end:] -= lost @ inverse[start:end, end:]
    return codes
