"""Writes codes as compressed-tensors' "pack-quantized" layout, which this and other engines read.

Knows words of 32 bits and the format's names and config; does not know where codes come from or
where files go. The counterpart of `unpack`; called by `engine/compression`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

WORD_BITS = 32


@dataclass(frozen=True, slots=True)
class Scheme:
    """How products are to be rounded and stored."""

    bits: int
    group_size: int
    """Columns that share a scale; 0: all of a row."""
    symmetric: bool

    def groups_of(self, columns: int) -> int:
        """Columns of a group in a product with so many."""
        return self.group_size or columns


def pack_product(
    scheme: Scheme, codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The tensors of one product by suffix.

    codes: [out, in] uint8; scales, zeros: [out, groups], zeros whole numbers.
    """
    leaves = {
        "weight_packed": pack_words(codes, scheme.bits),
        "weight_scale": scales.contiguous(),
        "weight_shape": torch.tensor(codes.shape, dtype=torch.int64),
    }
    if not scheme.symmetric:
        words = pack_words(zeros.to(torch.uint8).t(), scheme.bits)
        leaves["weight_zero_point"] = words.t().contiguous()
    return leaves


def pack_words(codes: torch.Tensor, bits: int) -> torch.Tensor:  # [rows, n · bits / 32] int32
    """Codes [rows, n] uint8, the first in the lowest bits."""
    octets = codes[:, ::2] | (codes[:, 1::2] << 4) if bits == 4 else codes
    return octets.flatten().view(torch.int32).view(len(codes), -1)


def describe(scheme: Scheme, ignored: list[str]) -> dict[str, object]:
    """The checkpoint's `quantization_config`."""
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": scheme.symmetric,
        "strategy": "group" if scheme.group_size else "channel",
        "group_size": scheme.group_size or None,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    group = {
        "targets": ["Linear"],
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ignored,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
