"""The library that `build.py` compiled of `native.cpp`, as functions of tensors.

Knows ctypes and the layout of its structures; does not know what is packed or when (`packed` does).
On a machine without the library `find_library` says None, and everything is computed with torch.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.panels import PANEL, find_functions
from stoker_runtime.kernels.reference import Scoring

_MAX_HEAD_DIM = 256


class NativeWeight(ctypes.Structure):
    """`struct Weight` of rows.hpp."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("cols", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("units", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("shifts", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("rounds", ctypes.c_int32),
    )


class _AttentionJob(ctypes.Structure):
    """`struct AttentionJob` of attention.hpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "keys", "values", "out", "tiles", "tables")),
        ("q_stride", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("num_tiles", "block_size", "num_heads")),
        *((name, ctypes.c_int32) for name in ("num_kv_heads", "head_dim", "window")),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("key_scales", ctypes.c_void_p),
        ("value_scales", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tokens of a step, some of one sequence at a time, and where their keys lie."""

    tiles: torch.Tensor  # [num_tiles, 4] int32: first row, rows, first position, place in `tables`
    tables: torch.Tensor  # [num_blocks_of_all] int32: block tables, one after the other


@dataclass(frozen=True, slots=True)
class Library:
    """The functions of native.cpp; all tensors are contiguous and on the CPU."""

    functions: ctypes.CDLL

    @staticmethod
    def attends(cache: KvCache) -> bool:
        """Whether `attend` can do this cache; its last dimension is that of a head."""
        dim = cache.data.shape[-1]
        is_known = cache.data.dtype in (torch.float32, torch.int8)
        fits = is_known and cache.data.device.type == "cpu"
        return fits and dim % PANEL == 0 and dim <= _MAX_HEAD_DIM

    def start_threads(self, num_threads: int) -> None:
        """Compute with that many threads at least, the caller included."""
        self.functions.stoker_start_threads(ctypes.c_int(num_threads))

    def pack(self, rows: torch.Tensor) -> torch.Tensor:  # [panels, units, 16] int32
        """Put rows of whole 32-bit units, of any dtype, side by side in panels of 16."""
        rows = rows.contiguous()
        num_rows, num_units = rows.shape[0], rows.shape[1] * rows.itemsize // 4
        assert num_units * 4 == rows.shape[1] * rows.itemsize, "a row must be whole units"
        packed = torch.empty(-(-num_rows // PANEL), num_units, PANEL, dtype=torch.int32)
        self.functions.stoker_pack(_pointer(rows), num_rows, num_units, _pointer(packed))
        return packed

    def multiply(
        self, weight: NativeWeight, x: torch.Tensor
    ) -> torch.Tensor:  # [num_rows, weight.rows] float32
        """x · Wᵀ + b; x: [num_rows, weight.cols] float32."""
        out = torch.empty(x.shape[0], weight.rows)
        self.functions.stoker_multiply(ctypes.byref(weight), _pointer(x), _pointer(out), x.shape[0])
        return out

    def attend(
        self, q: torch.Tensor, cache: KvCache, tiles: Tiles, scoring: Scoring
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Attention of the tiles' tokens to all tokens up to themselves, in float32.

        q: [num_tokens, num_heads, head_dim], rows may lie apart; cache: one layer's, of float32 or
        codes, with the tiles' own keys and values.
        """
        out = torch.empty(q.shape)
        scales = () if cache.scales is None else cache.scales
        pointers = (q, *cache.data, out, tiles.tiles, tiles.tables)
        job = _AttentionJob(
            *(tensor.data_ptr() for tensor in pointers),
            q.stride(0),
            len(tiles.tiles),
            cache.block_size,
            q.shape[1],
            *cache.data.shape[3:],
            scoring.window,
            scoring.scale,
            scoring.softcap or 0.0,
            *(half.data_ptr() for half in scales),
        )
        self.functions.stoker_attend(ctypes.byref(job))
        return out


@functools.cache
def find_library() -> Library | None:
    """The library for this processor, if it was built."""
    functions = find_functions()
    return None if functions is None else Library(functions)


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
