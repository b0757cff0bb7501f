"""Mixtures of experts: every token with the experts it chose, two launches for all experts.

Knows how pairs of tokens and choices are sorted and tiled; does not know routers or layers. The
number of programs depends on the number of tokens alone, so that a graph can replay it. Sorting
tokens by expert to have few products is MegaBlocks' idea (Gale et al. 2022, arXiv 2211.15841).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.linear import WordsLinear
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.gpu.tiles import Shape, find_arch, find_shape
from stoker_runtime.kernels.gpu.w4a16 import PLANE, Words
from stoker_runtime.kernels.linear import DenseLinear, Linear

_EXPERTS = Kernel(
    module="moe",
    function="experts_kernel",
    signature="x_ptr *T, weight_ptr *W, scales_ptr *fp16, zeros_ptr *u8, places_ptr *i64, "
    "factors_ptr *fp32, tiles_ptr *i32, pairs_ptr *i32, out_ptr *T, num_cols i32:16, "
    "num_outputs i32:16, num_blocks i32, num_chosen i32",
)
_DENSE, _DENSE_PLANE = 16, 64
"""Bits of a weight that is not rounded, and its columns of one step."""
_WIDTHS = ((_DENSE, 0), (4, 32), (4, 64), (4, 128), (8, 32), (8, 64))
"""Bits and group."""
_BLOCKS_M = (16, 64)
_LINE = 16
"""What sizes, and places of weights in memory, are multiples of."""


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """The same product of every expert; each lies where it was loaded, nothing is copied."""

    firsts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    """Weight or words, scales and zeros of the first expert."""
    places: torch.Tensor  # [num_experts, 3] int64, in elements, counted from `firsts`
    factors: torch.Tensor  # [num_experts] float32
    num_cols: int
    num_outputs: int
    bits: int
    group: int
    held: tuple[Linear, ...]
    """What the places point to."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Pairs of token and choice, sorted by expert, and the tiles they are cut into."""

    pairs: torch.Tensor  # [num_pairs] int32: token · num_chosen + choice
    tiles: torch.Tensor  # [num_tiles, 3] int32: expert, range of pairs; empty ranges at the end
    num_chosen: int
    block_m: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """Σ of a token's experts: weight · down(gate(gate_up(x)))."""

    gate_up: ExpertWeights
    down: ExpertWeights
    gate: Callable[[torch.Tensor], torch.Tensor]

    def __call__(
        self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor
    ) -> torch.Tensor:  # [num_tokens, hidden]
        """Apply it to [num_tokens, hidden]; weights and chosen: [num_tokens, num_chosen]."""
        routes = route(chosen, len(self.gate_up.places))
        inner = self.gate(multiply(x, self.gate_up, routes, gathers=True))
        out = multiply(inner, self.down, routes, gathers=False)
        apart = out.view(*chosen.shape, -1).float()
        return (apart * weights[:, :, None].float()).sum(1).to(x.dtype)


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Both halves of an expert for every way to store weights."""
    for dtype, width, block_m in itertools.product(FLOATS, _WIDTHS, _BLOCKS_M):
        shape = find_shape(arch.name, "experts", width[0], block_m)
        for gathers in (True, False):
            yield specialise(dtype, width, shape, gathers=gathers)


def group_experts(
    gate_ups: Sequence[Linear],
    downs: Sequence[Linear],
    gate: Callable[[torch.Tensor], torch.Tensor],
) -> Mixture | None:
    """All experts together, or None if they are stored in ways that no kernel multiplies."""
    gate_up, down = _gather(gate_ups), _gather(downs)
    return None if gate_up is None or down is None else Mixture(gate_up, down, gate)


def route(chosen: torch.Tensor, num_experts: int) -> Routes:
    """Sort and tile; nothing is read back to the host. chosen: [num_tokens, num_chosen].

    Five pairs of experts 1 0 1 1 1 in tiles of 2 are sorted 1 | 0 2 | 3 4.
    """
    flat = chosen.flatten()
    block_m = _BLOCKS_M[0] if len(flat) <= _BLOCKS_M[1] * num_experts // 4 else _BLOCKS_M[1]
    pairs = flat.argsort(stable=True)
    counts = torch.zeros(num_experts, dtype=torch.int64, device=flat.device)
    counts.scatter_add_(0, flat, torch.ones_like(flat))
    ends, num_tiles = counts.cumsum(0), (counts + block_m - 1) // block_m
    tile_ends = num_tiles.cumsum(0)
    most = len(flat) // block_m + min(num_experts, len(flat))
    tiles = torch.arange(most, device=flat.device)
    expert = torch.searchsorted(tile_ends, tiles, right=True)
    known = expert.clamp(max=num_experts - 1)
    firsts = (ends - counts)[known] + (tiles - (tile_ends - num_tiles)[known]) * block_m
    lasts = torch.minimum(firsts + block_m, ends[known])
    lasts = torch.where(expert < num_experts, lasts, firsts)
    made = torch.stack((known, firsts, lasts), 1).int()
    return Routes(pairs.int(), made, chosen.shape[1], block_m)


def multiply(
    x: torch.Tensor, weight: ExpertWeights, routes: Routes, *, gathers: bool
) -> torch.Tensor:  # [num_pairs, out]
    """Each pair's row of x with its expert's weight.

    x: [num_tokens, in] if `gathers`, out in the order of the sorted pairs; else x in that order,
    out in that of tokens and choices.
    """
    x = x.contiguous()
    out = torch.empty(len(routes.pairs), weight.num_outputs, dtype=x.dtype, device=x.device)
    shape = find_shape(find_arch(x.device), "experts", weight.bits, routes.block_m)
    width = (weight.bits, weight.group)
    one = specialise(ELEMENT_TYPES[x.dtype], width, shape, gathers=gathers)
    block = _DENSE_PLANE if weight.bits == _DENSE else PLANE * (16 // weight.bits)
    tensors = (*weight.firsts, weight.places, weight.factors, routes.tiles, routes.pairs, out)
    sizes = (weight.num_cols, weight.num_outputs, -(-weight.num_cols // block), routes.num_chosen)
    grid = (-(-weight.num_outputs // shape.block_n), len(routes.tiles), 1)
    launch(one, grid, x, *tensors, *sizes)
    return out


@dataclass(frozen=True, slots=True)
class _Part:
    """One expert's product, as the kernel reads it."""

    kind: tuple[int, int, int, int]
    """Columns, outputs, bits, group: the same for all experts."""
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    factor: float


def _gather(linears: Sequence[Linear]) -> ExpertWeights | None:
    parts = [part for one in linears if (part := _read(one)) is not None]
    if len(parts) < len(linears) or len({part.kind for part in parts}) > 1:
        return None
    firsts = parts[0].tensors
    places = [
        [
            (one.data_ptr() - base.data_ptr()) // base.itemsize
            for one, base in zip(part.tensors, firsts, strict=True)
        ]
        for part in parts
    ]
    if any(place % _LINE for each in places for place in each):
        return None
    device = firsts[0].device
    factors = torch.tensor([part.factor for part in parts], device=device)
    return ExpertWeights(
        firsts, torch.tensor(places, device=device), factors, *parts[0].kind, tuple(linears)
    )


def _read(linear: Linear) -> _Part | None:
    match linear:
        case DenseLinear(weight, None) if all(size % _LINE == 0 for size in weight.shape):
            nothing = weight.view(torch.uint8)[:0], weight.view(torch.float16)[:0]
            kind = (weight.shape[1], weight.shape[0], _DENSE, 0)
            return _Part(kind, (weight, nothing[1], nothing[0]), 1.0)
        case WordsLinear(Words() as words, None, None):
            kind = (words.num_cols, words.words.shape[1], words.bits, words.group)
            return _Part(kind, (words.words, words.scales, words.zeros), words.factor)
        case _:
            return None


def specialise(
    dtype: str, width: tuple[int, int], shape: Shape, *, gathers: bool
) -> Specialisation:
    """Products of `dtype` with experts of a width, bits and group."""
    bits, group = width
    is_dense = bits == _DENSE
    constants = {
        "GATHERS": gathers,
        "BITS": bits,
        "GROUP": group,
        "PLANE": _DENSE_PLANE if is_dense else PLANE,
        "PACKED": True,
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
    }
    types = {"T": dtype, "W": dtype if is_dense else "i16"}
    return _EXPERTS.specialise(types, constants, shape.num_warps, shape.num_stages)
