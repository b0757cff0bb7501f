"""Writes checkpoints in the published quantised formats, and says what their weights are.

Packs with plain loops over numpy integers, from the formats' descriptions: an opinion of its own on
every bit, to hold the runtime's unpacking against. Used by the tests of formats.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.checkpoints import LlamaShape, build_config, random_weights, write_tokenizer

Array = NDArray[Any]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_CODES = {
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "int8": "I8",
    "int64": "I64",
    "uint8": "F8_E4M3",  # numpy has no floats of 8 bits
}


@dataclass(frozen=True)
class Packed:
    """One product: the tensors that store it and the matrix that they mean."""

    tensors: dict[str, Array]
    """By suffix."""
    weight: Array  # [out, in] float32


@dataclass(frozen=True)
class Recipe:
    """How to round and pack a matrix."""

    bits: int = 4
    group_size: int = 32
    """-1: one group for each row."""
    symmetric: bool = False
    act_order: bool = False
    seed: int = 0

    @property
    def middle(self) -> int:
        """The code of zero in symmetric files."""
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class Rounded:
    """Codes [out, in] and, per group and row, scale and zero."""

    codes: Array
    scales: Array  # [groups, out] float16
    zeros: Array  # [groups, out]
    group_of: Array  # [in]
    weight: Array  # [out, in] float32


def round_weight(weight: Array, recipe: Recipe) -> Rounded:
    """Round to the nearest code of each group."""
    columns = weight.shape[1]
    size = columns if recipe.group_size < 0 else recipe.group_size
    group_of = np.arange(columns) // size
    if recipe.act_order:
        group_of = group_of[np.random.default_rng(recipe.seed).permutation(columns)]
    groups = int(group_of.max()) + 1
    top = (1 << recipe.bits) - 1
    scales = np.zeros((groups, len(weight)), np.float16)
    zeros = np.zeros((groups, len(weight)), np.int64)
    for group in range(groups):
        part = weight[:, group_of == group]
        if recipe.symmetric:
            scales[group] = np.abs(part).max(1) / (recipe.middle - 0.5)
            zeros[group] = recipe.middle
        else:
            low, high = np.minimum(part.min(1), -1e-3), np.maximum(part.max(1), 1e-3)
            scales[group] = (high - low) / top
            zeros[group] = np.clip(np.round(-low / scales[group].astype(np.float32)), 1, top)
    wide = scales.astype(np.float32)[group_of].T  # [out, in]
    wide_zeros = zeros[group_of].T
    codes = np.clip(np.round(weight / wide) + wide_zeros, 0, top).astype(np.int64)
    return Rounded(codes, scales, zeros, group_of, ((codes - wide_zeros) * wide).astype(np.float32))


def pack_rows(values: Array, bits: int, order: tuple[int, ...] | None = None) -> Array:
    """Words along the rows: the i-th lowest piece of word w is column w · n + order[i]."""
    count = 32 // bits
    words = np.zeros((values.shape[0], values.shape[1] // count), np.uint32)
    for w in range(words.shape[1]):
        for i in range(count):
            column = w * count + (order[i] if order else i)
            words[:, w] |= values[:, column].astype(np.uint32) << np.uint32(bits * i)
    return words.view(np.int32)


def pack_gptq(weight: Array, recipe: Recipe, version: int = 1) -> Packed:
    """Words down the columns of the transposed weight; the first version stores zeros minus one."""
    one = round_weight(weight, recipe)
    stored_zeros = one.zeros - (1 if version == 1 else 0)
    tensors = {
        "qweight": pack_rows(one.codes, recipe.bits).T.copy(),
        "qzeros": pack_rows(stored_zeros, recipe.bits),
        "scales": one.scales,
        "g_idx": one.group_of.astype(np.int32),
    }
    return Packed(tensors, one.weight)


def pack_awq(weight: Array, recipe: Recipe) -> Packed:
    """Words along the rows of the transposed weight, in AutoAWQ's order."""
    one = round_weight(weight, recipe)
    tensors = {
        "qweight": pack_rows(one.codes.T, 4, AWQ_ORDER),
        "qzeros": pack_rows(one.zeros, 4, AWQ_ORDER),
        "scales": one.scales,
    }
    return Packed(tensors, one.weight)


def pack_compressed(weight: Array, recipe: Recipe) -> Packed:
    """Words along the rows, zeros packed down the rows."""
    one = round_weight(weight, recipe)
    tensors = {
        "weight_packed": pack_rows(one.codes, recipe.bits),
        "weight_scale": one.scales.T.copy(),
        "weight_shape": np.array(weight.shape, np.int64),
    }
    if not recipe.symmetric:
        tensors["weight_zero_point"] = pack_rows(one.zeros, recipe.bits).T.copy()
    if recipe.act_order:
        tensors["weight_g_idx"] = one.group_of.astype(np.int32)
    return Packed(tensors, one.weight)


def pack_int8(weight: Array, recipe: Recipe) -> Packed:
    """Signed codes, a scale a row."""
    scales = (np.abs(weight).max(1, keepdims=True) / 127).astype(np.float32)
    codes = np.round(weight / scales).astype(np.int8)
    return Packed({"weight": codes, "weight_scale": scales}, codes * scales)


def pack_fp8(weight: Array, recipe: Recipe) -> Packed:
    """8-bit floats, a scale a row: sign, 4 bits of exponent, 3 of mantissa; 127 is no number."""
    octets = np.arange(127)
    exponents, mantissas = octets >> 3, octets & 7
    values = np.where(
        exponents == 0,
        mantissas / 8 * 2.0**-6,
        (1 + mantissas / 8) * 2.0 ** (exponents.astype(float) - 7),
    )
    scales = (np.abs(weight).max(1, keepdims=True) / 448).astype(np.float32)
    distances = np.abs(np.abs(weight / scales)[..., None] - values)
    nearest = distances.argmin(-1)
    codes = (nearest | (weight < 0) << 7).astype(np.uint8)
    return Packed(
        {"weight": codes, "weight_scale": scales},
        (np.sign(weight) * values[nearest] * scales).astype(np.float32),
    )


Packer = Callable[[Array, Recipe], Packed]


def write_quantized(
    folder: Path,
    pack: Packer,
    recipe: Recipe,
    quantization: dict[str, Any],
    shape: LlamaShape | None = None,
) -> Path:
    """Two folders: `quantized`, and `reference` with the same weights in float32; the parent."""
    shape = shape or LlamaShape()
    stored: dict[str, Array] = {}
    plain: dict[str, Array] = {}
    for index, (name, values) in enumerate(random_weights(shape)):
        if not name.endswith("_proj.weight") or name.removesuffix(".weight") in _ignored(
            quantization
        ):
            stored[name] = plain[name] = values
            continue
        packed = pack(values, replace(recipe, seed=index))
        stem = name.removesuffix("weight")
        stored |= {stem + suffix: tensor for suffix, tensor in packed.tensors.items()}
        plain[name] = packed.weight
    for name, tensors, extra in (
        ("quantized", stored, {"quantization_config": quantization}),
        ("reference", plain, {}),
    ):
        target = folder / name
        target.mkdir(parents=True)
        (target / "config.json").write_text(json.dumps(build_config(shape) | extra))
        write_tokenizer(target, shape.vocab_size)
        write_arrays(target / "model.safetensors", tensors)
    return folder


def _ignored(quantization: dict[str, Any]) -> list[str]:
    names: list[str] = quantization.get("ignore") or []
    return names


def write_arrays(path: Path, tensors: dict[str, Array]) -> None:
    """A safetensors file of arrays as they are."""
    header: dict[str, Any] = {}
    offset = 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {
            "dtype": _CODES[values.dtype.name],
            "shape": list(values.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(np.ascontiguousarray(values).tobytes() for values in tensors.values())
