"""Products whose weights lie as the native library wants them.

Knows each kind of `linear` and how its numbers become 32-bit units; does not know checkpoints.
`pack_linear` is called while loading; what it can't pack stays as it is and runs on torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import torch

from stoker_runtime.kernels.linear import (
    DenseLinear,
    GroupedLinear,
    Int8Linear,
    Linear,
    SideBySide,
)
from stoker_runtime.kernels.native import Library, NativeWeight, find_library
from stoker_runtime.kernels.panels import PANEL


class _Kind(IntEnum):
    """`enum Kind` of rows.hpp."""

    FLOAT32 = 0
    BFLOAT16 = 1
    FLOAT16 = 2
    INT8 = 3
    INT4 = 4


_COLUMNS = {
    _Kind.FLOAT32: 1,
    _Kind.BFLOAT16: 2,
    _Kind.FLOAT16: 2,
    _Kind.INT8: 4,
    _Kind.INT4: 8,
}
"""That a 32-bit unit holds."""
_DENSE = {
    torch.float32: _Kind.FLOAT32,
    torch.bfloat16: _Kind.BFLOAT16,
    torch.float16: _Kind.FLOAT16,
}


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """x · Wᵀ + b by the native library: summed in float32, or in integers where W is codes.

    Rows of x meet codes in 16 bits: off by 1/65534 of the largest value of 256 columns, or of a
    group, at most; of W8A8 exactly in 8 bits.
    """

    library: Library
    weight: NativeWeight
    held: tuple[torch.Tensor | None, ...]
    """What the weight points to."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        return self.library.multiply(self.weight, x.float().contiguous()).to(x.dtype)


def pack_linear(linear: Linear) -> Linear:
    """The same product packed for the native library, or as it is where that can't be."""
    if find_library() is None:
        return linear
    match linear:
        case DenseLinear(weight, bias) if weight.dtype in _DENSE and _is_even(weight):
            return _pack(_DENSE[weight.dtype], weight, bias)
        case Int8Linear(codes, scales, bias) if codes.shape[1] % 4 == 0:
            packed = _pack(_Kind.INT8, codes, bias, scales[:, None])
            packed.weight.rounds = linear.quantize_input
            return packed
        case SideBySide(parts, bias):
            return SideBySide(tuple(pack_linear(part) for part in parts), bias)
        case GroupedLinear() if linear.group_size % 8 == 0:
            return _pack_grouped(linear)
        case _:
            return linear


def adopt_panels(
    units: torch.Tensor, dtype: torch.dtype, bias: torch.Tensor | None = None
) -> PackedLinear:
    """The product of a weight that lies in panels already: [panels, units, 16] int32 of `dtype`."""
    return _adopt(_DENSE[dtype], units, bias)


def _is_even(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.shape[1] * weight.itemsize % 4 == 0


def _pack_grouped(linear: GroupedLinear) -> PackedLinear:
    """Codes of 4 bits go 8 to a unit; wider ones become signed: 200 - 128 = 72."""
    scales, zeros = linear.scales.float(), linear.zeros.float()
    if linear.bits <= 4:
        codes, kind = linear.codes[:, 0::2] | (linear.codes[:, 1::2] << 4), _Kind.INT4
    else:
        codes, kind, zeros = linear.codes ^ 128, _Kind.INT8, zeros - 128
    packed = _pack(kind, codes, linear.bias, scales, -zeros * scales)
    packed.weight.group = linear.group_size
    if linear.order is None:
        return packed
    order = linear.order.int()
    packed.weight.order = order.data_ptr()
    return replace(packed, held=(*packed.held, order))


def _pack(
    kind: _Kind,
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    scales: torch.Tensor | None = None,
    shifts: torch.Tensor | None = None,
) -> PackedLinear:
    library = find_library()
    assert library is not None, "`pack_linear` packs nothing without the library"
    packed = _adopt(kind, library.pack(rows), bias, scales, shifts)
    packed.weight.rows = rows.shape[0]
    return packed


def _adopt(
    kind: _Kind,
    units: torch.Tensor,
    bias: torch.Tensor | None,
    scales: torch.Tensor | None = None,
    shifts: torch.Tensor | None = None,
) -> PackedLinear:
    library = find_library()
    assert library is not None, "panels are made by the library"
    num_cols = units.shape[1] * _COLUMNS[kind]
    held = (units, _panels(scales), _panels(shifts), bias if bias is None else bias.float())
    pointers = (0 if one is None else one.data_ptr() for one in held)
    weight = NativeWeight(kind, len(units) * PANEL, num_cols, num_cols, *pointers)
    return PackedLinear(library, weight, held)


def _panels(values: torch.Tensor | None) -> torch.Tensor | None:
    """[out, groups] as float32 [panels, groups, 16], rows beyond the last 0."""
    if values is None:
        return None
    padding = -len(values) % PANEL
    padded = torch.nn.functional.pad(values.float(), (0, 0, 0, padding))
    return padded.view(-1, PANEL, values.shape[1]).transpose(1, 2).contiguous()
