"""All layers of a decoder as the native library runs them: one call a step.

Knows the structures of program.hpp and who keeps the memory behind their pointers; does not know
decoders (`model/program` makes one of these from a decoder) or sequences.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.native import Library, Tiles
from stoker_runtime.kernels.packed import PackedLinear
from stoker_runtime.kernels.reference import Angles


class _Mlp(ctypes.Structure):
    """`struct Mlp` of experts.hpp."""

    _fields_ = (("gate_up", ctypes.c_void_p), ("down", ctypes.c_void_p))


class _Mixture(ctypes.Structure):
    """`struct Mixture` of experts.hpp."""

    _fields_ = (
        ("experts", ctypes.POINTER(_Mlp)),
        ("router", ctypes.c_void_p),
        ("shared_gate", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("num_experts", "num_chosen", "normalizes")),
    )


class _Layer(ctypes.Structure):
    """`struct Layer` of program.hpp."""

    _fields_ = (
        ("qkv", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("mlp", _Mlp),
        ("mixture", ctypes.POINTER(_Mixture)),
        *((name, ctypes.c_void_p) for name in ("head_norm", "attn_out_norm")),
        *((name, ctypes.c_void_p) for name in ("mlp_norm", "mlp_out_norm")),
        *((name, ctypes.c_void_p) for name in ("next_norm", "keys", "values")),
        *((name, ctypes.c_void_p) for name in ("key_scales", "value_scales")),
        ("rope", ctypes.c_int32),
        ("window", ctypes.c_int32),
    )


class _Program(ctypes.Structure):
    """`struct Program` of program.hpp."""

    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
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


@dataclass(frozen=True, slots=True)
class ProgramShape:
    """What all layers have in common."""

    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    is_gelu: bool
    eps: float
    scale: float
    softcap: float


@dataclass(frozen=True, slots=True)
class ProgramMlp:
    """down(gate(x) · up(x))."""

    gate_up: PackedLinear
    down: PackedLinear


@dataclass(frozen=True, slots=True)
class ProgramMixture:
    """Experts of one shape, of which each token gets a few."""

    experts: Sequence[ProgramMlp]
    router: PackedLinear  # [num_experts, hidden]
    shared_gate: torch.Tensor | None  # [1, hidden] float32: of the layer's own MLP
    num_chosen: int
    normalizes: bool


@dataclass(frozen=True, slots=True)
class ProgramLayer:
    """One layer's weights, all float32 besides those of products, and its part of the cache."""

    qkv: PackedLinear
    out: PackedLinear
    mlp: ProgramMlp | None
    """Of all tokens."""
    mixture: ProgramMixture | None
    """Beside it or in its place."""
    head_norm: torch.Tensor | None  # [num_heads + num_kv_heads, head_dim]
    attn_out_norm: torch.Tensor | None  # [hidden], and so are all below
    mlp_norm: torch.Tensor
    mlp_out_norm: torch.Tensor | None
    next_norm: torch.Tensor
    cache: KvCache
    rope: int | None
    """Which of a step's angles."""
    window: int


class Program:
    """The layers, and the norm before the first of them, ready to be run."""

    def __init__(
        self,
        library: Library,
        shape: ProgramShape,
        first_norm: torch.Tensor,
        layers: Sequence[ProgramLayer],
    ) -> None:
        self._library = library
        structs = (_Layer * len(layers))(*(_describe(layer) for layer in layers))
        self._held = (first_norm, *layers, structs)  # what the pointers below point to
        self._program = _Program(
            structs,
            first_norm.data_ptr(),
            len(layers),
            *(shape.hidden, shape.num_heads, shape.num_kv_heads, shape.head_dim),
            layers[0].cache.block_size,
            *(shape.is_gelu, shape.eps, shape.scale, shape.softcap),
        )

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
        self._library.functions.stoker_run(ctypes.byref(self._program), ctypes.byref(step))
        return normed


def _describe(layer: ProgramLayer) -> _Layer:
    scales = (None, None) if layer.cache.scales is None else layer.cache.scales
    norms = (layer.attn_out_norm, layer.mlp_norm, layer.mlp_out_norm, layer.next_norm)
    return _Layer(
        _weight(layer.qkv),
        _weight(layer.out),
        _describe_mlp(layer.mlp),
        layer.mixture and ctypes.pointer(_describe_mixture(layer.mixture)),
        *(_data(one) for one in (layer.head_norm, *norms, *layer.cache.data, *scales)),
        -1 if layer.rope is None else layer.rope,
        layer.window,
    )


def _describe_mixture(mixture: ProgramMixture) -> _Mixture:
    experts = [_describe_mlp(expert) for expert in mixture.experts]
    return _Mixture(
        (_Mlp * len(experts))(*experts),
        _weight(mixture.router),
        _data(mixture.shared_gate),
        len(experts),
        mixture.num_chosen,
        mixture.normalizes,
    )


def _describe_mlp(mlp: ProgramMlp | None) -> _Mlp:
    return _Mlp() if mlp is None else _Mlp(_weight(mlp.gate_up), _weight(mlp.down))


def _weight(linear: PackedLinear) -> int:
    return ctypes.addressof(linear.weight)


def _data(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
