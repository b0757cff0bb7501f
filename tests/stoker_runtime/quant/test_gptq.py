"""GPTQ keeps a product's outputs closer than rounding each weight for itself."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.quant.gptq import Codes, round_gptq, round_nearest
from stoker_runtime.quant.pack import Scheme

SCHEMES = [Scheme(4, 32, True), Scheme(4, 32, False), Scheme(8, 0, True)]


def make_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [40, 96] and inputs [300, 96] that depend on each other and differ in size."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(96, 96, generator=random) * torch.logspace(-1, 1, 96)
    inputs = torch.randn(300, 24, generator=random) @ mixing[:24]
    return torch.randn(40, 96, generator=random), inputs


def error(codes: Codes, weight: torch.Tensor, inputs: torch.Tensor) -> float:
    return float((inputs @ (codes.weight - weight).t()).square().mean())


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_outputs_stay_closer(scheme: Scheme) -> None:
    weight, inputs = make_case()
    moments = inputs.t() @ inputs
    nearest = round_nearest(weight, scheme, torch.float32)
    calibrated = round_gptq(weight, moments, scheme, torch.float32)
    assert error(calibrated, weight, inputs) < 0.5 * error(nearest, weight, inputs)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_fit_their_bits(scheme: Scheme) -> None:
    weight, inputs = make_case(1)
    codes = round_gptq(weight, inputs.t() @ inputs, scheme, torch.bfloat16)
    assert int(codes.codes.max()) < 1 << scheme.bits
    assert codes.scales.dtype == torch.bfloat16
    assert codes.scales.shape == codes.zeros.shape == (40, 96 // scheme.groups_of(96))
    assert bool((codes.zeros == codes.zeros.round()).all())


def test_independent_inputs_of_one_size_change_nothing() -> None:
    weight, _ = make_case(2)
    scheme = Scheme(4, 32, True)
    nearest = round_nearest(weight, scheme, torch.float32)
    assert torch.equal(
        round_gptq(weight, torch.eye(96), scheme, torch.float32).codes, nearest.codes
    )


def test_inputs_that_were_never_seen_do_no_harm() -> None:
    weight, inputs = make_case(3)
    inputs[:, ::3] = 0
    codes = round_gptq(weight, inputs.t() @ inputs, Scheme(4, 32, True), torch.float32)
    assert bool(torch.isfinite(codes.weight).all())
    assert float((codes.weight - weight)[:, ::3].abs().max()) < 2.0
