"""From the stored tensors of one quantised weight to codes, scales and zeros in plain order.

Knows what each bit means in GPTQ (AutoGPTQ's and GPTQModel's files), AWQ (AutoAWQ's "gemm" order)
and compressed-tensors; does not know files or the network. Called by `model/weights` for each part
of a product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.kernels.linear import Fp8Linear, GroupedLinear, Int8Linear
from stoker_runtime.quant.spec import QuantSpec

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The nibble i of a word, lowest first, belongs to column `_AWQ_ORDER[i]` of the word's eight."""

Leaves = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Codes [out, in] uint8; scales and zeros [groups, out]; the group of each column."""

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    group_of: torch.Tensor | None
    """[in]; None: column // group size."""


def unpack(
    quant: QuantSpec, module: str, leaves: Leaves, columns: int
) -> GroupedLinear | Int8Linear | Fp8Linear:
    """The weight of `module`, which has so many columns; without bias."""
    match quant.storage:
        case "gptq":
            return _arrange(quant, module, _unpack_gptq(quant, leaves), columns)
        case "awq":
            return _arrange(quant, module, _unpack_awq(leaves), columns)
        case "packed":
            return _arrange(quant, module, _unpack_packed(quant, leaves), columns)
        case "int8":
            return _unpack_int8(quant, leaves)
        case "fp8":
            return Fp8Linear(leaves["weight"], leaves["weight_scale"].float().flatten())


def unpack_words(words: torch.Tensor, bits: int) -> torch.Tensor:  # [rows, words · 32 / bits] uint8
    """Codes of words [rows, words] int32, the lowest bits first.

    A word is four bytes, lowest first, so that 8-bit codes are there already and 4-bit ones are
    the two halves of each byte.
    """
    octets = words.contiguous().view(torch.uint8)  # [rows, 4 · words]
    if bits == 8:
        return octets
    codes = torch.empty(*octets.shape, 2, dtype=torch.uint8, device=words.device)
    torch.bitwise_and(octets, 15, out=codes[..., 0])
    torch.bitwise_right_shift(octets, 4, out=codes[..., 1])
    return codes.flatten(-2)


def _unpack_gptq(quant: QuantSpec, leaves: Leaves) -> _Grouped:
    """Words go down the columns of [in / 8, out]; zeros along the rows of [groups, out / 8]."""
    codes = unpack_words(leaves["qweight"].t(), quant.bits)
    zeros = unpack_words(leaves["qzeros"], quant.bits).float() + quant.zero_offset
    return _Grouped(codes, leaves["scales"].float(), zeros, leaves.get("g_idx"))


def _unpack_awq(leaves: Leaves) -> _Grouped:
    """Words go along the rows of [in, out / 8], in AWQ's order within a word."""
    codes = _awq_columns(leaves["qweight"]).t().contiguous()
    return _Grouped(codes, leaves["scales"].float(), _awq_columns(leaves["qzeros"]).float(), None)


def _awq_columns(words: torch.Tensor) -> torch.Tensor:  # [rows, 8 · words] uint8
    codes = unpack_words(words, 4).view(len(words), -1, 8)
    back = torch.tensor(_AWQ_ORDER, device=words.device).argsort()
    return codes[..., back].flatten(1)


def _unpack_packed(quant: QuantSpec, leaves: Leaves) -> _Grouped:
    """Codes and zeros are stored with 2^(bits-1) added; zeros go down the columns."""
    codes = unpack_words(leaves["weight_packed"], quant.bits)
    scales = leaves["weight_scale"].float().t()
    if quant.symmetric:
        zeros = torch.full_like(scales, 1 << (quant.bits - 1))
    else:
        zeros = unpack_words(leaves["weight_zero_point"].t(), quant.bits).float()
    return _Grouped(codes, scales, zeros, leaves.get("weight_g_idx"))


def _unpack_int8(quant: QuantSpec, leaves: Leaves) -> Int8Linear:
    scales = leaves["weight_scale"].float().flatten()
    return Int8Linear(leaves["weight"], scales, quantize_input=quant.quantize_input)


def _arrange(quant: QuantSpec, module: str, grouped: _Grouped, columns: int) -> GroupedLinear:
    """Groups side by side and of one size.

    The columns of a group are brought together (`order`), and where the last group is short all
    are cut to the size that divides everything: 576 columns in groups of 128 are 9 groups of 64.
    """
    size = math.gcd(quant.group_size, columns) or columns
    group_of = grouped.group_of
    if group_of is None:
        steps = torch.arange(columns, device=grouped.codes.device)
        group_of = steps // (quant.group_size or columns)
    sorted_groups, order = group_of.long().sort(stable=True)
    blocks = sorted_groups.view(-1, size)
    chosen = blocks[:, 0]
    known = (chosen >= 0) & (chosen < len(grouped.scales))
    if not bool((blocks == chosen[:, None]).all() & known.all()):
        raise CheckpointBroken(
            f"{module}: its group index must name every group for {quant.group_size} columns"
        )
    in_order = bool((order[1:] > order[:-1]).all())
    return GroupedLinear(
        codes=grouped.codes.contiguous() if in_order else grouped.codes[:, order],
        scales=grouped.scales[chosen].t().contiguous(),
        zeros=grouped.zeros[chosen].t().contiguous(),
        group_size=size,
        bits=quant.bits,
        order=None if in_order else order,
    )
