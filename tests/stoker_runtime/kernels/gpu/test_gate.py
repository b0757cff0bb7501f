"""The gates' kernel equals its twins in torch."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.gpu import gate
from support.gpu import DTYPES, EXACT, assert_close


@pytest.mark.parametrize("inter", [16, 1008, 1536])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gates_equal_torchs(inter: int, dtype: torch.dtype) -> None:
    torch.manual_seed(inter)
    gate_up = (torch.randn(5, 2 * inter) * 4).to(dtype)
    made, expected = gate.silu_and_multiply(gate_up), reference.silu_and_multiply(gate_up)
    assert_close(made, expected)
    made, expected = gate.gelu_and_multiply(gate_up), reference.gelu_and_multiply(gate_up)
    assert_close(made, expected)


def test_nothing_is_computed_of_nothing() -> None:
    assert gate.silu_and_multiply(torch.empty(0, 32)).shape == (0, 16)


def test_large_values_do_not_overflow() -> None:
    gate_up = torch.tensor([[-300.0] * 8 + [300.0] * 8 + [2.0] * 16], dtype=EXACT)
    made = gate.gelu_and_multiply(gate_up)
    assert_close(made, torch.tensor([[0.0] * 8 + [600.0] * 8], dtype=EXACT))
