"""All layers of a decoder as the native library runs them: one call a step.

Knows the structures of program.hpp and experts.hpp; does not know decoders (`model/program` fills
the structures for one) or sequences.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from stoker_runtime.kernels.native import Library, Tiles
from stoker_runtime.kernels.reference import Angles


class NativeMlp(ctypes.Structure):
    """`struct Mlp` of experts.hpp."""

    _fields_ = (("gate_up", ctypes.c_void_p), ("down", ctypes.c_void_p))


class NativeMixture(ctypes.Structure):
    """`struct Mixture` of experts.hpp."""

    _fields_ = (
        ("experts", ctypes.POINTER(NativeMlp)),
        ("router", ctypes.c_void_p),
        ("shared_gate", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("num_experts", "num_chosen", "normalizes")),
    )


class NativeLayer(ctypes.Structure):
    """`struct Layer` of program.hpp."""

    _fields_ = (
        ("qkv", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("mlp", NativeMlp),
        ("mixture", ctypes.POINTER(NativeMixture)),
        *((name, ctypes.c_void_p) for name in ("head_norm", "attn_out_norm")),
        *((name, ctypes.c_void_p) for name in ("mlp_norm", "mlp_out_norm")),
        *((name, ctypes.c_void_p) for name in ("next_norm", "keys", "values")),
        *((name, ctypes.c_void_p) for name in ("key_scales", "value_scales")),
        ("rope", ctypes.c_int32),
        ("window", ctypes.c_int32),
    )


class NativeProgram(ctypes.Structure):
    """`struct Program` of program.hpp."""

    _fields_ = (
        ("layers", ctypes.POINTER(NativeLayer)),
        ("first_norm", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("num_layers", "hidden", "num_heads")),
        *((name, ctypes.c_int32) for name in ("num_kv_heads", "head_dim", "block_size")),
        ("is_gelu", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("eps", "scale", "softcap")),
    )


class _Step(ctypes.Structure):
    """`struct Step` of program.hpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "normed", "angles", "halves", "slots")),
        *((name, ctypes.c_void_p) for name in ("tiles", "tables")),
        ("num_tokens", ctypes.c_int32),
        ("num_tiles", ctypes.c_int32),
    )


class Program:
    """The layers of a decoder, and the norm before the first of them, ready to be run."""

    def __init__(self, library: Library, described: NativeProgram, held: object) -> None:
        """held: all that the description points to."""
        self._library = library
        self._described = described
        self._held = held

    def run(
        self, x: torch.Tensor, angles: Sequence[Angles], slots: torch.Tensor, tiles: Tiles
    ) -> torch.Tensor:  # [num_tokens, hidden] float32
        """All layers over x, [num_tokens, hidden] float32, which is changed; the result is normed.

        angles: of each rope, float32; slots: [num_tokens] int64, see `Ops.turn_and_store`.
        """
        x, normed = x.contiguous(), torch.empty(x.shape)
        tables = [part.contiguous() for pair in angles for part in pair]
        pointers = (ctypes.c_void_p * len(tables))(*(table.data_ptr() for table in tables))
        halves = (ctypes.c_int32 * len(angles))(*(cos.shape[-1] for cos, _ in angles))
        step = _Step(
            *(x.data_ptr(), normed.data_ptr(), ctypes.addressof(pointers)),
            *(ctypes.addressof(halves), slots.data_ptr()),
            *(tiles.tiles.data_ptr(), tiles.tables.data_ptr(), len(x), len(tiles.tiles)),
        )
        self._library.functions.stoker_run(ctypes.byref(self._described), ctypes.byref(step))
        return normed
