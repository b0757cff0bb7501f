"""AWQ's factors lower the error of the outputs where inputs differ in size."""

from __future__ import annotations

import torch

from stoker_runtime.quant.awq import search_factors
from stoker_runtime.quant.gptq import round_nearest
from stoker_runtime.quant.pack import Scheme

SCHEME = Scheme(4, 32, symmetric=True)


def make_case() -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [40, 96] and inputs [300, 96], a few of which are far larger than the others."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 96, generator=random)
    inputs[:, ::16] *= 20
    return torch.randn(40, 96, generator=random), inputs


def test_outputs_are_closer_than_without_factors() -> None:
    weight, inputs = make_case()
    factors = search_factors(weight, inputs.t() @ inputs, SCHEME)
    plain = round_nearest(weight, SCHEME, torch.float32).weight
    scaled = round_nearest(weight * factors, SCHEME, torch.float32).weight / factors
    errors = [(inputs @ (one - weight).t()).square().mean() for one in (plain, scaled)]
    assert errors[1] < 0.95 * errors[0]
    assert factors[::16].min() > factors[1::16].max()


def test_inputs_of_one_size_need_no_factors() -> None:
    weight, _ = make_case()
    assert torch.equal(search_factors(weight, torch.eye(96), SCHEME), torch.ones(96))


def test_heads_that_read_the_same_values_share_factors() -> None:
    weight, inputs = make_case()
    factors = search_factors(weight, inputs.t() @ inputs, SCHEME, heads=(2, 3)).view(2, 3, 16)
    assert torch.equal(factors, factors[:, :1].expand_as(factors))


def test_inputs_that_were_never_seen_do_no_harm() -> None:
    weight, _ = make_case()
    assert bool(torch.isfinite(search_factors(weight, torch.zeros(96, 96), SCHEME)).all())
