"""Muon: steps in orthogonal directions, whatever the size of the gradient."""

from __future__ import annotations

import pytest
import torch

from tinychat.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix, torch.float32))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.3


def test_the_directions_stay() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    out = orthogonalise(matrix, torch.float32)
    torch.testing.assert_close(out - torch.diag(out.diagonal()), torch.zeros(3, 3))
    assert (out.diagonal() > 0).all()


def test_a_step_lowers_a_quadratic() -> None:
    weight = torch.nn.Parameter(torch.full((4, 8), 2.0))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0, dtype=torch.float32)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward((weight**2).sum())
        optimizer.step()
    assert float((weight.detach() ** 2).sum()) < 4 * 8 * 4
