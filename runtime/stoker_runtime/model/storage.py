"""Which tensors the products of a layout are stored as, when some of them are quantised.

Knows how a product's weight becomes several tensors of the checkpoint; does not know files or
torch. Called by the engine before anything is read, and by `weights` to find the tensors again.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from stoker_runtime.model.layout import Fused, Part
from stoker_runtime.quant.layout import is_quantized, plan_leaves
from stoker_runtime.quant.spec import QuantSpec

WEIGHT = ".weight"
BIAS = ".bias"
HEAD = "head"
EMBED = "embed"


def plan_storage(
    layout: Sequence[Fused], quant: QuantSpec | None, stored: Container[str]
) -> tuple[Fused, ...]:
    """The layout with each quantised weight replaced by the tensors that hold it.

    Tensors of the same kind of one product stay together, so that q, k and v are neighbours still.
    """
    if quant is None:
        return tuple(layout)
    known = {part.name for fused in layout for part in fused.parts}
    return tuple(
        piece
        for fused in layout
        for piece in (_expand(fused, quant, stored, known) if is_product(fused) else (fused,))
    )


def is_product(fused: Fused) -> bool:
    """Whether it is a matrix that tokens are multiplied with, under a name `weights` builds."""
    return fused.name.endswith(WEIGHT) and len(fused.shape) == 2


def pick_products(layout: Sequence[Fused], storage: Sequence[Fused]) -> frozenset[Fused]:
    """What tokens are multiplied with and is stored as it is: products, and the head or, where
    there is none, the embedding in its place. `storage` is what `plan_storage` made of the layout.
    """
    names = {fused.name for fused in layout}
    head = HEAD if HEAD in names else EMBED
    wanted = {fused for fused in layout if is_product(fused) or fused.name == head}
    return frozenset(wanted.intersection(storage))


def product_name(part: Part) -> str:
    """The checkpoint's name of the product whose weight this is."""
    return part.name.removesuffix(WEIGHT)


def extra_bias(module: str, stored: Container[str], known: Container[str]) -> str | None:
    """A bias that the quantised checkpoint holds and the network does not ask for.

    Older GPTQ files have one, all zeros, for every product.
    """
    name = module + BIAS
    return name if name in stored and name not in known else None


def _expand(
    fused: Fused, quant: QuantSpec, stored: Container[str], known: Container[str]
) -> list[Fused]:
    pieces: dict[str, list[Part]] = {}
    for part in fused.parts:
        module = product_name(part)
        if not is_quantized(quant, module, stored):
            pieces.setdefault(WEIGHT, []).append(part)
            continue
        rows, columns = part.shape
        for leaf in plan_leaves(quant, module, (rows, columns), stored):
            name = f"{module}.{leaf.suffix}"
            pieces.setdefault(f".{leaf.suffix}", []).append(Part(name, leaf.shape, leaf.kind))
        if bias := extra_bias(module, stored, known):
            pieces.setdefault(".extra_bias", []).append(Part(bias, (rows,)))
    stem = fused.name.removesuffix(WEIGHT)
    return [Fused(stem + suffix, tuple(parts)) for suffix, parts in pieces.items()]
