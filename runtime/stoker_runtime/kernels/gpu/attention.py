"""Attention over a paged cache for steps that mix prompts and decodes.

Knows tiles, tables and one layer's cache; does not know sequences or the scheduler. `PagedPlan`
implements `ops.AttentionPlan`; its twin is `model/attention`'s `PaddedPlan`. How many programs run
depends on the number of tiles alone, so that a recorded graph serves sequences of any length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.gpu.rounded import cached_types, find_limit, split
from stoker_runtime.kernels.gpu.tiles import Shape, find_arch, find_shape
from stoker_runtime.kernels.reference import Heads, Scoring

MAX_GROUP = 64
"""Query heads that may share a key head."""
_ATTEND = Kernel(
    module="attention",
    function="attend_kernel",
    signature="q_ptr *T, keys_ptr *C, values_ptr *C, key_scales_ptr *fp32, value_scales_ptr *fp32, "
    "tiles_ptr *i32:1, tables_ptr *i32, out_ptr *T, parts_ptr *fp32, sums_ptr *fp32, "
    "num_heads i32, num_kv_heads i32, head_dim i32:16, block_shift i32, window i32, "
    "num_shares i32, scale fp32, softcap fp32",
)
_MERGE = Kernel(
    module="attention",
    function="merge_kernel",
    signature="parts_ptr *fp32, sums_ptr *fp32, tiles_ptr *i32:1, out_ptr *T, num_heads i32, "
    "head_dim i32:16, num_shares i32",
)
_MAX_NARROW = 16
"""Rows of a decode's product: tensor cores take no fewer."""
_ROOMS = (64, 128, 256)
"""For entries of a head."""
_SOFTCAP_ROOMS = (128, 256)
"""Gemma 2's heads."""
_MOST_SHARES = 16
_SHARES = (_MOST_SHARES, 4, 1)
_FULL_PROGRAMS = 1056
"""Keys are shared out while that makes no more programs than this: 8 for each processor of an H200.
With 8 key heads, up to 8 decodes have 16 shares, up to 33 have 4, more have 1."""
_SMALLEST_SHARE = 128
"""Keys; of fewer, what a share costs is more than what it saves."""
_NO_WINDOW = 1 << 30


@dataclass(frozen=True, slots=True)
class Tiles:
    """Some tokens of a step, each tile's of one sequence, and where their keys lie."""

    tiles: torch.Tensor  # [num_tiles, 4] int32: first row, rows, first position, place in `tables`
    tables: torch.Tensor  # [num_places] int32: block ids, each sequence's side by side
    most_keys: int
    """No sequence has more, now or when the same tiles are attended with again."""


@dataclass(frozen=True, slots=True)
class PagedPlan:
    """Attention of one step by kernels: tiles of prompts, and decodes of one row each."""

    slots: torch.Tensor
    """See `ops.AttentionPlan`."""
    prompts: Tiles
    decodes: Tiles

    def attend(
        self, q: torch.Tensor, cache: KvCache, scoring: Scoring
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """See `ops.AttentionPlan`; sums are float32."""
        out, (stored, scales) = torch.empty_like(q), split(cache)
        for tiles, is_decode in ((self.prompts, False), (self.decodes, True)):
            if len(tiles.tiles):
                _attend(_Job(q, stored, scales, tiles, scoring, is_decode), out)
        return out


@dataclass(frozen=True, slots=True)
class _Job:
    """Some tiles, and everything that they attend with."""

    q: torch.Tensor  # [num_tokens, num_heads, head_dim]
    cache: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads, head_dim]
    scales: torch.Tensor  # [2, num_blocks, block_size, num_kv_heads] float32, or [2, 0]
    tiles: Tiles
    scoring: Scoring
    is_decode: bool

    @property
    def room(self) -> int:
        """For entries of a head."""
        return _pick_room(self.q.shape[2], has_softcap=self.scoring.softcap is not None)

    @property
    def shape(self) -> Shape:
        """Decodes have one row for each query head of a group, and few fit in the narrow one."""
        group = self.q.shape[1] // self.cache.shape[3]
        is_narrow = self.is_decode and group <= _MAX_NARROW
        sizes = (self.room, 8 if self.cache.itemsize == 1 else 16)
        return _find_shape(find_arch(self.q.device), sizes, is_narrow=is_narrow)

    @property
    def num_shares(self) -> int:
        """Into how many parts the keys of a tile are shared out."""
        num_programs = len(self.tiles.tiles) * self.cache.shape[3]
        most = min(_FULL_PROGRAMS // num_programs, self.tiles.most_keys // _SMALLEST_SHARE)
        if self.shape.block_m > _MAX_NARROW:
            most = 1
        return next((n for n in _SHARES if n <= most), 1)


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Every size of head and cache, keys shared out or not; soft caps for heads that have them."""
    for dtype, room in product(FLOATS, _ROOMS):
        for cache in cached_types(dtype, arch):
            yield from _specialise_cache(arch, {"T": dtype, "C": cache}, room)
        yield _specialise_merge(dtype, room)


def _specialise_cache(arch: Arch, types: dict[str, str], room: int) -> Iterator[Specialisation]:
    sizes = (room, 16 if types["C"] == types["T"] else 8)
    softcaps = (False, True) if room in _SOFTCAP_ROOMS else (False,)
    wide, narrow = (_find_shape(arch.name, sizes, is_narrow=one) for one in (False, True))
    cuts = ((wide, False), (narrow, False), (narrow, True))
    for (shape, is_shared), has_softcap in product(cuts, softcaps):
        yield specialise(types, room, shape, has_softcap=has_softcap, is_shared=is_shared)


def tokens_per_tile(
    heads: Heads, head_dim: int, device: torch.device, *, has_softcap: bool = False
) -> int:
    """How many tokens of a prompt a tile may have, whatever the cache holds."""
    room, arch = _pick_room(head_dim, has_softcap=has_softcap), find_arch(device)
    rows = min(_find_shape(arch, (room, bits), is_narrow=False).block_m for bits in (8, 16))
    return rows // (heads.num_heads // heads.num_kv_heads)


def _attend(job: _Job, out: torch.Tensor) -> None:
    num_heads, head_dim = job.q.shape[1:]
    block_size, num_kv_heads = job.cache.shape[2:4]
    types = {"T": ELEMENT_TYPES[job.q.dtype], "C": ELEMENT_TYPES[job.cache.dtype]}
    num_shares, scoring, tiles = job.num_shares, job.scoring, job.tiles.tiles
    switches = {"has_softcap": scoring.softcap is not None, "is_shared": num_shares > 1}
    one = specialise(types, job.room, job.shape, **switches)
    num_parts = len(tiles) * num_heads * num_shares if num_shares > 1 else 0
    parts = job.q.new_empty(num_parts, head_dim, dtype=torch.float32)
    sums = job.q.new_empty(num_parts, 2, dtype=torch.float32)
    launch(
        one,
        (len(tiles), num_kv_heads, num_shares),
        *(job.q, *job.cache.unbind(0), *job.scales.unbind(0), tiles, job.tiles.tables),
        *(out, parts, sums, num_heads, num_kv_heads, head_dim, block_size.bit_length() - 1),
        *(scoring.window or _NO_WINDOW, num_shares, scoring.scale, scoring.softcap or 0.0),
    )
    if num_shares > 1:
        merge, sizes = _specialise_merge(types["T"], job.room), (num_heads, head_dim, num_shares)
        launch(merge, (len(tiles), num_heads, 1), parts, sums, tiles, out, *sizes)


def _find_shape(arch: str, sizes: tuple[int, int], *, is_narrow: bool) -> Shape:
    """sizes: room for entries of a head, bits of one in the cache."""
    return find_shape(arch, "decodes" if is_narrow else "prompts", *sizes)


def _pick_room(head_dim: int, *, has_softcap: bool) -> int:
    """Soft caps are compiled for the heads that models have them with."""
    rooms = _SOFTCAP_ROOMS if has_softcap else _ROOMS
    return next(room for room in rooms if room >= head_dim)


def specialise(
    types: dict[str, str], room: int, shape: Shape, *, has_softcap: bool, is_shared: bool
) -> Specialisation:
    """Attention of queries T to a cache of C with room for entries of a head."""
    constants = {
        "HAS_SCALES": find_limit(types["C"]) > 0,
        "HAS_SOFTCAP": has_softcap,
        "IS_SHARED": is_shared,
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
        "BLOCK": room,
    }
    return _ATTEND.specialise(types, constants, shape.num_warps, shape.num_stages)


def _specialise_merge(dtype: str, block: int) -> Specialisation:
    constants = {"MOST_SHARES": _MOST_SHARES, "BLOCK": block}
    return _MERGE.specialise({"T": dtype}, constants, num_warps=4)
