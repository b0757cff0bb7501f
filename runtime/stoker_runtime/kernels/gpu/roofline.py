"""How long the usual products and a step of decoding must take at least on known cards.

Knows datasheets' rates and what kernels read and write; runs nothing. Printed by `stoker kernels
build` for who has no GPU at hand; what a card does is measured by `make bench-gpu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """What a datasheet promises."""

    name: str
    arch: str
    bytes_per_s: float
    """Of its memory."""
    flops_per_s: float
    """Of its tensor cores in bfloat16, without sparsity; 8 bits are twice as fast."""


CARDS = (
    Card("H200", "sm_90", 4.8e12, 989e12),
    Card("A100 80GB", "sm_80", 2.04e12, 312e12),
)


@dataclass(frozen=True, slots=True)
class Storage:
    """A way to store weights."""

    name: str
    weight_bytes: float
    """Of one weight, its share of scales and zeros included."""
    speed: float
    """Of its products, bfloat16 being 1."""


STORAGES = (
    Storage("bf16", 2.0, 1.0),
    Storage("int8", 1.0 + 3 / 64, 1.0),
    Storage("W8A8, fp8", 1.0, 2.0),
    Storage("int4, groups of 128", 0.5 + 3 / 128, 1.0),
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The least time of one piece of work."""

    work: str
    seconds: float
    is_bound_by_memory: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A product of `rows` inputs with a weight [outputs, inputs]."""

    rows: int
    outputs: int
    inputs: int


_SHAPES = (Shape(1, 14336, 4096), Shape(16, 14336, 4096), Shape(4096, 14336, 4096))
_EIGHT_B_WEIGHTS = 8.03e9
_EIGHT_B_KV_BYTES = 2 * 32 * 8 * 128 * 2
"""Of one token in bfloat16: keys and values, 32 layers, 8 heads of 128."""


def estimate_product(shape: Shape, storage: Storage, card: Card) -> Estimate:
    """Every byte moved once, every sum made once; 16-bit inputs and outputs."""
    weights = shape.outputs * shape.inputs
    moved = weights * storage.weight_bytes + 2 * shape.rows * (shape.outputs + shape.inputs)
    summed = 2 * shape.rows * weights / storage.speed
    work = f"{shape.rows} × {shape.inputs} · {shape.outputs}, {storage.name}"
    return _estimate(work, moved / card.bytes_per_s, summed / card.flops_per_s)


def estimate_step(num_seqs: int, context: int, storage: Storage, card: Card) -> Estimate:
    """One token for each of `num_seqs` sequences by a Llama of 8B."""
    moved = _EIGHT_B_WEIGHTS * storage.weight_bytes + num_seqs * context * _EIGHT_B_KV_BYTES
    summed = 2 * num_seqs * _EIGHT_B_WEIGHTS / storage.speed
    work = f"decode of 8B, {num_seqs} at {context} tokens, {storage.name}"
    return _estimate(work, moved / card.bytes_per_s, summed / card.flops_per_s)


def estimate_all(arch: str) -> Iterator[tuple[Card, Estimate]]:
    """The table for the cards of a generation."""
    for card in CARDS:
        if card.arch != arch:
            continue
        for storage in STORAGES:
            for shape in _SHAPES:
                yield card, estimate_product(shape, storage, card)
            for num_seqs, context in ((1, 1024), (32, 4096)):
                yield card, estimate_step(num_seqs, context, storage, card)


def _estimate(work: str, moving_s: float, summing_s: float) -> Estimate:
    return Estimate(work, max(moving_s, summing_s), moving_s >= summing_s)
