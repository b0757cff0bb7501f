"""Queries, keys and values of new tokens: normalised, turned, and stored in the paged cache.

Knows one layer's cache and where its tokens go; does not know sequences or attention. `ops` hands
it to the decoder; its twin is `reference.turn_and_store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, launch
from stoker_runtime.kernels.gpu.registry import FLOATS, Arch, Kernel, Specialisation
from stoker_runtime.kernels.gpu.rounded import cached_types, find_limit, split
from stoker_runtime.kernels.reference import Angles, Heads

MAX_HEAD_DIM = 256
_TURN = Kernel(
    module="turn",
    function="turn_kernel",
    signature="qkv_ptr *T, weight_ptr *fp32, cos_ptr *T, sin_ptr *T, slots_ptr *i32:1, q_ptr *T, "
    "keys_ptr *C, values_ptr *C, key_scales_ptr *fp32, value_scales_ptr *fp32, num_tokens i32, "
    "num_heads i32, num_kv_heads i32, head_dim i32:16, half i32, eps fp32",
)
_BLOCK_ROWS = {64: 32, 128: 16, 256: 8}
"""Entries of a head that a program has room for → its rows."""


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Every size of head and cache, with and without a norm."""
    for dtype, block, has_norm in product(FLOATS, _BLOCK_ROWS, (False, True)):
        for cache in cached_types(dtype, arch):
            yield _specialise({"T": dtype, "C": cache}, block, has_norm=has_norm)


def turn_and_store(
    qkv: torch.Tensor,
    heads: Heads,
    angles: Angles | None,
    cache: KvCache,
    slots: torch.Tensor,
) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
    """See `ops.Ops`, but slots are int32, and tokens whose slot is -1 are not stored."""
    stored, scales = split(cache)
    num_tokens, head_dim = len(qkv), stored.shape[-1]
    q = qkv.new_empty(num_tokens, heads.num_heads, head_dim)
    cos, sin = angles or (qkv, qkv)
    weight, eps = (scales, 0.0) if heads.norm is None else (heads.norm.weight, heads.norm.eps)
    types = {"T": ELEMENT_TYPES[qkv.dtype], "C": ELEMENT_TYPES[stored.dtype]}
    block = next(block for block in _BLOCK_ROWS if block >= head_dim)
    one = _specialise(types, block, has_norm=heads.norm is not None)
    num_rows = num_tokens * (heads.num_heads + 2 * heads.num_kv_heads)
    grid = (-(-num_rows // _BLOCK_ROWS[block]), 1, 1)
    tensors = (qkv, weight, cos, sin, slots, q, *stored.unbind(0), *scales.unbind(0))
    half = 0 if angles is None else cos.shape[-1]
    sizes = (num_tokens, heads.num_heads, heads.num_kv_heads, head_dim, half)
    launch(one, grid, *tensors, *sizes, eps)
    return q


def _specialise(types: dict[str, str], block: int, *, has_norm: bool) -> Specialisation:
    constants = {
        "HAS_NORM": has_norm,
        "LIMIT": find_limit(types["C"]),
        "BLOCK_ROWS": _BLOCK_ROWS[block],
        "BLOCK": block,
    }
    return _TURN.specialise(types, constants, num_warps=4)
