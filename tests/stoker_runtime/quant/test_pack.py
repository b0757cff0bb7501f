"""What is written is what an independent packer writes, and is read back as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stoker_runtime.quant.pack import Scheme, describe, pack_product, pack_words
from stoker_runtime.quant.spec import parse_quantization
from stoker_runtime.quant.unpack import unpack, unpack_words
from support.quantized import pack_rows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bits", [4, 8])
def test_words_are_those_of_the_format(bits: int) -> None:
    codes = RNG.integers(0, 1 << bits, (6, 64), dtype=np.uint8)
    words = pack_words(torch.from_numpy(codes), bits)
    assert np.array_equal(words.numpy(), pack_rows(codes, bits))
    assert np.array_equal(unpack_words(words, bits).numpy(), codes)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [0, 32])
def test_a_product_survives_the_way_through_the_format(
    bits: int, symmetric: bool, group_size: int
) -> None:
    scheme = Scheme(bits, group_size, symmetric)
    groups = 64 // scheme.groups_of(64)
    codes = torch.from_numpy(RNG.integers(0, 1 << bits, (16, 64), dtype=np.uint8))
    scales = torch.rand(16, groups)
    zeros = torch.full((16, groups), float(1 << (bits - 1)))
    if not symmetric:
        zeros = torch.from_numpy(RNG.integers(0, 1 << bits, (16, groups))).float()
    leaves = pack_product(scheme, codes, scales, zeros)
    quant = parse_quantization(describe(scheme, ["lm_head"]))
    linear = unpack(quant, "layer", leaves, 64)
    expected = (codes.view(16, groups, -1) - zeros[..., None]) * scales[..., None]
    torch.testing.assert_close(linear(torch.eye(64)).t(), expected.flatten(1))
