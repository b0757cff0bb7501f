"""One product out of several that take the same input: q, k and v; gate and up.

Knows when codes can be stacked (same groups, same order of columns) and what to do when they can't;
does not know formats or names. Called by `model/weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from stoker_runtime.kernels.linear import (
    DenseLinear,
    Fp8Linear,
    GroupedLinear,
    Int8Linear,
    Linear,
    SideBySide,
)


def join(parts: Sequence[Linear], bias: torch.Tensor | None = None) -> Linear:
    """The parts below each other, with the bias [out] of all of them."""
    if all(isinstance(part, GroupedLinear) for part in parts):
        return _join_grouped(cast(Sequence[GroupedLinear], parts), bias)
    if all(isinstance(part, Int8Linear) for part in parts):
        return _join_int8(cast(Sequence[Int8Linear], parts), bias)
    if all(isinstance(part, Fp8Linear) for part in parts):
        floats = cast(Sequence[Fp8Linear], parts)
        codes = stack([part.codes for part in floats])
        return Fp8Linear(codes, stack([part.scales for part in floats]), bias)
    if all(isinstance(part, DenseLinear) for part in parts):
        return DenseLinear(stack([cast(DenseLinear, part).weight for part in parts]), bias)
    return SideBySide(tuple(parts), bias)


def stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:  # [sum of rows, …]
    """Rows below each other; no copy where they already are neighbours in one storage."""
    first = tensors[0]
    place, rows = first.storage_offset(), 0
    for tensor in tensors:
        adjacent = tensor.is_contiguous() and tensor.storage_offset() == place
        shared = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (adjacent and shared and tensor.dtype == first.dtype):
            return torch.cat(list(tensors))
        place, rows = place + tensor.numel(), rows + len(tensor)
    return first.as_strided((rows, *first.shape[1:]), first.stride())


def _join_grouped(parts: Sequence[GroupedLinear], bias: torch.Tensor | None) -> Linear:
    first = parts[0]
    if not all(_same_groups(first, part) for part in parts):
        return SideBySide(tuple(parts), bias)
    return GroupedLinear(
        codes=stack([part.codes for part in parts]),
        scales=stack([part.scales for part in parts]),
        zeros=stack([part.zeros for part in parts]),
        group_size=first.group_size,
        bits=first.bits,
        order=first.order,
        bias=bias,
    )


def _same_groups(one: GroupedLinear, other: GroupedLinear) -> bool:
    if (one.group_size, one.bits) != (other.group_size, other.bits):
        return False
    if one.order is None or other.order is None:
        return one.order is other.order
    return torch.equal(one.order, other.order)


def _join_int8(parts: Sequence[Int8Linear], bias: torch.Tensor | None) -> Linear:
    if len({part.quantize_input for part in parts}) > 1:
        return SideBySide(tuple(parts), bias)
    return Int8Linear(
        codes=stack([part.codes for part in parts]),
        scales=stack([part.scales for part in parts]),
        bias=bias,
        quantize_input=parts[0].quantize_input,
    )
