"""Which tensors hold one quantised weight, with their shapes and kinds, without torch.

Knows the names and packing widths of each format; does not know files or what the bits mean
(`unpack` does). Called when the layout of a checkpoint is laid out for reading.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.quant.spec import QuantSpec

Kind = Literal["float", "int8", "int32", "fp8"]
IGNORED = (".weight_shape",)
"""Ends of names that formats write and nobody needs: the config knows the shapes."""
_WORD_BITS = 32
_MARKS = {
    "gptq": "qweight",
    "awq": "qweight",
    "packed": "weight_packed",
    "int8": "weight_scale",
    "fp8": "weight_scale",
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One stored tensor of a quantised weight."""

    suffix: str
    """Behind the product's name and a dot."""
    shape: tuple[int, ...]
    kind: Kind
    """`float` is any of the floating-point types."""


def is_quantized(quant: QuantSpec, module: str, stored: Container[str]) -> bool:
    """Whether the product `module` of [out, in] is stored quantised: what is there decides.

    Lists of exceptions (`ignore`, `modules_to_not_convert`) say the same in many dialects.
    """
    return f"{module}.{_MARKS[quant.storage]}" in stored


def plan_leaves(
    quant: QuantSpec, module: str, shape: tuple[int, int], stored: Container[str]
) -> tuple[Leaf, ...]:
    """The tensors of the weight [out, in] of `module`."""
    match quant.storage:
        case "gptq":
            leaves = _plan_gptq(quant, module, shape)
            optional = "g_idx"
        case "awq":
            leaves = _plan_awq(quant, module, shape)
            optional = ""
        case "packed":
            leaves = _plan_packed(quant, module, shape)
            optional = "weight_g_idx"
        case "int8" | "fp8":
            leaves = _plan_rows(quant.storage, shape)
            optional = ""
    return tuple(
        leaf for leaf in leaves if leaf.suffix != optional or f"{module}.{optional}" in stored
    )


def _plan_gptq(quant: QuantSpec, module: str, shape: tuple[int, int]) -> list[Leaf]:
    rows, columns = shape
    groups = _num_groups(quant, columns)
    return [
        Leaf("qweight", (_words(quant, module, columns), rows), "int32"),
        Leaf("qzeros", (groups, _words(quant, module, rows)), "int32"),
        Leaf("scales", (groups, rows), "float"),
        Leaf("g_idx", (columns,), "int32"),
    ]


def _plan_awq(quant: QuantSpec, module: str, shape: tuple[int, int]) -> list[Leaf]:
    rows, columns = shape
    groups, words = _num_groups(quant, columns), _words(quant, module, rows)
    return [
        Leaf("qweight", (columns, words), "int32"),
        Leaf("qzeros", (groups, words), "int32"),
        Leaf("scales", (groups, rows), "float"),
    ]


def _plan_packed(quant: QuantSpec, module: str, shape: tuple[int, int]) -> list[Leaf]:
    rows, columns = shape
    groups = _num_groups(quant, columns)
    leaves = [
        Leaf("weight_packed", (rows, _words(quant, module, columns)), "int32"),
        Leaf("weight_scale", (rows, groups), "float"),
        Leaf("weight_g_idx", (columns,), "int32"),
    ]
    if not quant.symmetric:
        leaves.append(Leaf("weight_zero_point", (_words(quant, module, rows), groups), "int32"))
    return leaves


def _plan_rows(kind: Kind, shape: tuple[int, int]) -> list[Leaf]:
    rows = shape[0]
    return [
        Leaf("weight", shape, kind),
        Leaf("weight_scale", (rows, 1), "float"),
    ]


def _num_groups(quant: QuantSpec, columns: int) -> int:
    """The last group may be short: 576 columns in groups of 128 make 5."""
    return -(-columns // quant.group_size) if quant.group_size else 1


def _words(quant: QuantSpec, module: str, length: int) -> int:
    per_word = _WORD_BITS // quant.bits
    if length % per_word:
        raise CheckpointBroken(
            f"{module}: {quant.method} with {quant.bits} bits packs {per_word} codes a word, "
            f"and {length} is not a multiple of that"
        )
    return length // per_word
