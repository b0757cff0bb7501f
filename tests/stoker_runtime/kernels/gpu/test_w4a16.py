"""Products with few bits, interpreted, beside torch."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.kernels.gpu.w4a16 import (
    Words,
    multiply,
    pack_words,
    pick_shares,
    restore,
)
from support.gpu import DTYPES, EXACT, assert_near
from support.twins import multiply_words, restore_words

SHAPES = [(1, 16, 32), (3, 144, 576), (17, 48, 160), (65, 32, 96)]
"""Tokens, outputs, inputs."""
WIDTHS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64)]
"""Bits, group."""


def make_codes(outputs: int, inputs: int, bits: int, group: int) -> tuple[torch.Tensor, ...]:
    """Codes, scales and zeros; zeros up to 16, as GPTQ's first format has them."""
    codes = torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8)
    scales = (torch.rand(outputs, inputs // group) + 0.5) / (1 << bits)
    zeros = torch.randint(0, min(255, 1 << bits) + 1, scales.shape).float()
    return codes, scales.half().float(), zeros


def make_words(outputs: int, inputs: int, bits: int, group: int) -> Words:
    words = pack_words(*make_codes(outputs, inputs, bits, group), bits)
    assert words is not None
    return words


@pytest.mark.parametrize(("bits", "group"), WIDTHS)
def test_words_stand_for_the_weight(bits: int, group: int) -> None:
    torch.manual_seed(bits)
    codes, scales, zeros = make_codes(48, 640, bits, group)
    expected = (codes.view(48, -1, group) - zeros[..., None]) * scales[..., None]
    words = pack_words(codes, scales, zeros, bits)
    assert words is not None
    assert torch.equal(restore_words(words), expected.flatten(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("bits", "group"), WIDTHS)
def test_a_weight_is_restored(bits: int, group: int, dtype: torch.dtype) -> None:
    torch.manual_seed(group)
    words = make_words(144, 192 if group < 128 else 128, bits, group)
    for outputs in (slice(0, 144), slice(96, 128)):
        expected = restore_words(words)[outputs].t().to(dtype)
        rounding = 1 / 128 if dtype == torch.bfloat16 else 1e-3  # the interpreter cuts bits off
        torch.testing.assert_close(restore(words, outputs, dtype), expected, atol=0, rtol=rounding)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [4, 8])
def test_products_equal_torchs(shape: tuple[int, int, int], bits: int) -> None:
    num_tokens, outputs, inputs = shape
    torch.manual_seed(num_tokens)
    words = make_words(outputs, inputs, bits, 32 if inputs % 64 else 64)
    x, bias = torch.randn(num_tokens, inputs, dtype=EXACT), torch.randn(outputs, dtype=EXACT)
    one = bias if num_tokens > 1 else None
    assert_near(multiply(x, words, one), multiply_words(x, words, one))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("bits", "group"), [(4, 128), (8, 64)])
def test_products_in_16_bits_are_rounded_once(bits: int, group: int, dtype: torch.dtype) -> None:
    torch.manual_seed(bits)
    words, x = make_words(64, 256, bits, group), torch.randn(5, 256).to(dtype)
    expected = multiply_words(x.float(), words, None)
    assert_near(multiply(x, words, None), expected, 5e-3)


def test_many_rows_are_multiplied_by_the_restored_weight() -> None:
    torch.manual_seed(0)
    words, bias = make_words(32, 128, 4, 128), torch.randn(32, dtype=EXACT)
    x = torch.randn(130, 128, dtype=EXACT)
    assert_near(multiply(x, words, bias), multiply_words(x, words, bias))


@pytest.mark.parametrize("outputs", [20, 24], ids=str)
def test_outputs_that_fill_no_line_are_not_packed(outputs: int) -> None:
    assert pack_words(*make_codes(outputs, 64, 4, 32), 4) is None


def test_zeros_between_codes_are_not_packed() -> None:
    codes, scales, zeros = make_codes(16, 64, 4, 32)
    assert pack_words(codes, scales, zeros + 0.5, 4) is None


def test_scales_of_any_size_keep_their_bits() -> None:
    codes, scales, zeros = make_codes(16, 64, 4, 32)
    words = pack_words(codes, scales * 2.0**-30, zeros, 4)
    assert words is not None
    expected = restore_words(make_again(codes, scales, zeros)) * 2.0**-30
    torch.testing.assert_close(restore_words(words), expected, atol=0, rtol=1e-3)


def make_again(codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor) -> Words:
    words = pack_words(codes, scales, zeros, 4)
    assert words is not None
    return words


@pytest.mark.parametrize(
    ("tiles", "blocks", "expected"),
    [(32, 32, 8), (112, 32, 2), (264, 32, 1), (1000, 32, 1), (32, 7, 1), (1, 112, 28)],
)
def test_shares_fill_the_processors(tiles: int, blocks: int, expected: int) -> None:
    assert pick_shares(tiles, blocks, 132) == expected
