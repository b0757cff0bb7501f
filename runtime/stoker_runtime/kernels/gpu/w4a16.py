"""Products with weights of 4 or 8 bits in groups, for 16-bit inputs (and float32, interpreted).

Knows how codes lie in words and how work is cut; does not know checkpoints or layers. A few rows
are multiplied straight from the words, many by torch's library after the weight was restored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, count_processors, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.gpu.tiles import Shape, find_arch, find_shape

PLANE = 32
"""Columns whose codes lie in the same place of their words."""
_WORD_BITS = 16
_GROUPS = {4: (32, 64, 128), 8: (32, 64)}
"""Bits → columns that may share a scale; larger groups are repeated."""
_SUM_BLOCK = 1024
_RESTORE_BLOCK = 128
_BLOCKS_M = (16, 32, 64)
_SLICE = 16384
"""Outputs that are restored at a time: bounds the scratch memory of a head."""
_MIN_BLOCKS = 4
"""Of a share: enough for the loads in flight to pay."""

_PRODUCT = Kernel(
    module="w4a16",
    function="product_kernel",
    signature="x_ptr *T, words_ptr *i16, scales_ptr *fp16, zeros_ptr *u8, bias_ptr *T:1, "
    "out_ptr *T, parts_ptr *fp32, num_rows i32, num_cols i32:16, num_outputs i32:16, "
    "num_biased i32, num_blocks i32, num_shares i32, factor fp32",
)
_SUM = Kernel(
    module="w4a16",
    function="sum_kernel",
    signature="parts_ptr *fp32, bias_ptr *T:1, out_ptr *T, num_shares i32, num_rows i32, "
    "num_cols i32:16, num_biased i32",
)
_RESTORE = Kernel(
    module="w4a16",
    function="restore_kernel",
    signature="words_ptr *i16, scales_ptr *fp16, zeros_ptr *u8, out_ptr *T, num_cols i32:16, "
    "num_outputs i32:16, num_kept i32:16, factor fp32",
)


@dataclass(frozen=True, slots=True)
class Words:
    """W[o, i] = (code - zero) · scale · factor, packed; see `product_kernel` for the order.

    num_blocks = ⌈in / columns of a block⌉; what is beyond `in` meets inputs of 0.
    """

    words: torch.Tensor  # [num_blocks · PLANE, out] int16
    scales: torch.Tensor  # [num_blocks · groups of a block, out] float16
    zeros: torch.Tensor  # as scales, uint8
    num_cols: int
    bits: int
    group: int
    factor: float
    """A power of two that puts the scales into the middle of float16's range."""

    @property
    def num_blocks(self) -> int:
        """Blocks of columns."""
        return len(self.words) // PLANE


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Every dtype, width, group and number of rows."""
    yield from map(_specialise_sum, FLOATS)
    widths = [(bits, group) for bits, groups in _GROUPS.items() for group in groups]
    for dtype, (bits, group) in itertools.product(FLOATS, widths):
        yield _specialise_restore(dtype, bits, group)
        for block_m in _BLOCKS_M:
            yield specialise(dtype, bits, group, find_shape(arch.name, "w4a16", bits, block_m))


def pack_words(
    codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, bits: int
) -> Words | None:
    """Codes [out, in] uint8 with scales and zeros [out, groups] as words; None if they can't be.

    On the device that the codes are on. 8 bits: any zero from 0 to 255.
    """
    num_outputs, num_cols = codes.shape
    group = _fit_group(num_cols // scales.shape[1], bits)
    whole = bool((zeros == zeros.clamp(0, 255).round()).all())
    if group == 0 or not whole or num_outputs % 16 or num_cols % 16:
        return None
    repeats = num_cols // scales.shape[1] // group
    planes = _WORD_BITS // bits
    padding = -num_cols % (planes * PLANE)
    padded = F.pad(codes, (0, padding)).view(num_outputs, -1, planes, PLANE)
    words = torch.zeros_like(padded[:, :, 0], dtype=torch.int32)
    for plane in range(planes):
        words |= padded[:, :, plane].int() << plane * bits
    words -= (words >> 15) << 16  # the same 16 bits as a signed number
    factor = 2.0 ** math.ceil(math.log2(max(float(scales.abs().max()), 1e-30)))
    halves, bytes_ = (
        F.pad(one.repeat_interleave(repeats, 1), (0, padding // group)).t().contiguous().to(dtype)
        for one, dtype in ((scales / factor, torch.float16), (zeros, torch.uint8))
    )
    flat = words.to(torch.int16).permute(1, 2, 0).reshape(-1, num_outputs)
    return Words(flat.contiguous(), halves, bytes_, num_cols, bits, group, factor)


def multiply(
    x: torch.Tensor, weight: Words, bias: torch.Tensor | None
) -> torch.Tensor:  # [num_tokens, out]
    """x [num_tokens, in] · Wᵀ + b."""
    x = x.contiguous()
    if len(x) > 2 * _BLOCKS_M[-1]:
        return _multiply_restored(x, weight, bias)
    num_rows, num_outputs = len(x), weight.words.shape[1]
    block_m = next((one for one in _BLOCKS_M if one >= num_rows), _BLOCKS_M[-1])
    shape = find_shape(find_arch(x.device), "w4a16", weight.bits, block_m)
    tiles = (-(-num_outputs // shape.block_n), -(-num_rows // block_m))
    shares = pick_shares(tiles[0] * tiles[1], weight.num_blocks, count_processors(x.device))
    out = torch.empty(num_rows, num_outputs, dtype=x.dtype, device=x.device)
    wide = (shares, num_rows, num_outputs) if shares > 1 else (0,)
    parts = torch.empty(wide, dtype=torch.float32, device=x.device)
    biased = (out, 0) if bias is None else (bias, num_outputs)
    dtype = ELEMENT_TYPES[x.dtype]
    one = specialise(dtype, weight.bits, weight.group, shape)
    tensors = (x, weight.words, weight.scales, weight.zeros, biased[0], out, parts)
    sizes = (num_rows, weight.num_cols, num_outputs, biased[1], weight.num_blocks, shares)
    launch(one, (*tiles, shares), *tensors, *sizes, weight.factor)
    if shares > 1:
        grid = (num_rows, -(-num_outputs // _SUM_BLOCK), 1)
        numbers = (shares, num_rows, num_outputs, biased[1])
        launch(_specialise_sum(dtype), grid, parts, biased[0], out, *numbers)
    return out


def restore(
    weight: Words, outputs: slice, dtype: torch.dtype
) -> torch.Tensor:  # [in, outputs of the slice]
    """The weights of some outputs, transposed as they lie; the slice is of multiples of 16."""
    words, scales, zeros = (one[:, outputs] for one in (weight.words, weight.scales, weight.zeros))
    num_outputs, num_kept = weight.words.shape[1], words.shape[1]
    out = torch.empty(weight.num_cols, num_kept, dtype=dtype, device=words.device)
    grid = (-(-num_kept // _RESTORE_BLOCK), weight.num_blocks, 1)
    one = _specialise_restore(ELEMENT_TYPES[dtype], weight.bits, weight.group)
    sizes = (weight.num_cols, num_outputs, num_kept, weight.factor)
    launch(one, grid, words, scales, zeros, out, *sizes)
    return out


def pick_shares(num_tiles: int, num_blocks: int, num_processors: int) -> int:
    """Into how many parts the columns are cut so that two programs meet on a processor.

    A 4096 × 4096 product of one row has 32 tiles of 32 blocks: on 132 processors 8 shares of 4.
    """
    wanted = 2 * num_processors // num_tiles
    return max(1, min(wanted, num_blocks // _MIN_BLOCKS))


def _multiply_restored(x: torch.Tensor, weight: Words, bias: torch.Tensor | None) -> torch.Tensor:
    num_outputs = weight.words.shape[1]
    out = torch.empty(len(x), num_outputs, dtype=x.dtype, device=x.device)
    for start in range(0, num_outputs, _SLICE):
        outputs = slice(start, min(start + _SLICE, num_outputs))
        torch.mm(x, restore(weight, outputs, x.dtype), out=out[:, outputs])
    return out if bias is None else out.add_(bias)


def _fit_group(size: int, bits: int) -> int:
    """The largest group that kernels have and that divides `size`; 0 if none does."""
    return max((one for one in _GROUPS[bits] if size % one == 0), default=0)


def specialise(dtype: str, bits: int, group: int, shape: Shape) -> Specialisation:
    """Products of `dtype` with words."""
    constants = {
        "BITS": bits,
        "GROUP": group,
        "PLANE": PLANE,
        "PACKED": True,
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
    }
    return _PRODUCT.specialise({"T": dtype}, constants, shape.num_warps, shape.num_stages)


def _specialise_sum(dtype: str) -> Specialisation:
    return _SUM.specialise({"T": dtype}, {"BLOCK": _SUM_BLOCK}, num_warps=4)


def _specialise_restore(dtype: str, bits: int, group: int) -> Specialisation:
    constants = {
        "BITS": bits,
        "GROUP": group,
        "PLANE": PLANE,
        "PACKED": True,
        "BLOCK_N": _RESTORE_BLOCK,
    }
    return _RESTORE.specialise({"T": dtype}, constants, num_warps=4)
