"""Turns the blob of bytes into the decoder's weights.

Knows torch dtypes, the layout and which products are quantised; does not know files (`checkpoint`,
`reader`), the bits of formats (`quant`) or arithmetic (`decoder`). Tensors of the right dtype are
views of the blob: nothing is copied on a CPU. What was copied is given back at once if nobody else
wants it, so that unpacking or rounding a model never needs it twice.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.kernels.packed import pack_linear
from stoker_runtime.model.layout import Fused, Part
from stoker_runtime.model.reader import Placed
from stoker_runtime.model.storage import BIAS, WEIGHT, is_product, product_name
from stoker_runtime.quant.join import join
from stoker_runtime.quant.layout import is_quantized, plan_leaves
from stoker_runtime.quant.rounding import quantize
from stoker_runtime.quant.spec import QuantSpec, Target
from stoker_runtime.quant.unpack import unpack

HEAD = "head"
TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_STORED_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I32": torch.int32,
    "I8": torch.int8,
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What a checkpoint holds, as the decoder wants it."""

    tensors: Mapping[str, torch.Tensor]
    """Embedding and norms, by their names in the layout."""
    linears: Mapping[str, Linear]
    """Products, by their names without `.weight`; `head` is there for tied embeddings too."""


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """What becomes of the stored bytes."""

    dtype: torch.dtype
    """Of everything that is not quantised."""
    device: torch.device
    stored_as: QuantSpec | None = None
    """How the checkpoint is quantised."""
    quantize_to: Target | None = None
    """What an unquantised checkpoint is rounded to while loading."""
    packs: bool = False
    """Products are packed for the native library, of weights in the dtype they are stored in."""
    owns_blob: bool = False
    """Nobody else will read it again, so that what was copied is given back at once."""


def build_weights(
    blob: mmap.mmap, layout: Sequence[Fused], placed: Mapping[str, Placed], plan: WeightPlan
) -> Weights:
    """The decoder's weights; the parts of the blob that were copied are empty afterwards."""
    source = _Source(blob, placed, plan)
    apart = {HEAD} if plan.packs else set()
    others = [one for one in layout if not is_product(one) and one.name not in apart]
    tensors = {fused.name: source.dense(fused) for fused in others}
    linears: dict[str, Linear] = {}
    for fused in layout:
        if is_product(fused):
            name = fused.name.removesuffix(WEIGHT)
            linears[name] = source.product(fused, tensors.get(name + BIAS))
    linears[HEAD] = source.head({fused.name: fused for fused in layout})
    return Weights(tensors, linears)


def build_tensors(
    blob: mmap.mmap,
    layout: Sequence[Fused],
    placed: dict[str, Placed],
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """All tensors of an unquantised checkpoint by name, in `dtype` on `device`."""
    source = _Source(blob, placed, WeightPlan(dtype, device))
    return {fused.name: source.dense(fused) for fused in layout}


def stored_tensor(blob: mmap.mmap, placed: Placed) -> torch.Tensor:
    """A tensor of the checkpoint as it is stored, a view of the blob."""
    data = torch.frombuffer(blob, dtype=torch.uint8)[
        placed.at : placed.at + placed.tensor.num_bytes
    ]
    return data.view(_STORED_DTYPES[placed.tensor.dtype]).view(placed.tensor.shape)


class _Source:
    """The filled blob, and where things are in it."""

    def __init__(self, blob: mmap.mmap, placed: Mapping[str, Placed], plan: WeightPlan) -> None:
        self._blob = blob
        self._placed = placed
        self._plan = plan
        self._data = torch.frombuffer(blob, dtype=torch.uint8).to(plan.device)  # [num_bytes]

    def dense(self, fused: Fused) -> torch.Tensor:
        """One tensor in the wanted dtype."""
        placed = [self._placed[part.name] for part in fused.parts]
        if len({one.tensor.dtype for one in placed}) == 1:
            view = self._view(placed[0], placed[-1]).view(fused.shape)
            return view.to(self._plan.dtype)
        parts = [self._view(one, one).to(self._plan.dtype) for one in placed]
        return torch.cat(parts).view(fused.shape)

    def _matrix(self, fused: Fused) -> torch.Tensor:
        """A product's weight; bfloat16 stays as it is if it is going to be packed."""
        placed = [self._placed[part.name] for part in fused.parts]
        packs = self._plan.packs and self._plan.quantize_to is None
        if packs and {one.tensor.dtype for one in placed} == {"BF16"}:
            return self._view(placed[0], placed[-1]).view(fused.shape)
        return self.dense(fused)

    def head(self, layout: Mapping[str, Fused]) -> Linear:
        """The product that makes logits, from the embedding if it has no weight of its own.

        Rounded to 8 bits at most: 4 bits of it cost more accuracy than those of all layers.
        """
        weight = self._matrix(layout.get(HEAD, layout["embed"]))
        linear = quantize(weight, "int8") if self._plan.quantize_to else DenseLinear(weight)
        return self._pack(linear)

    def product(self, fused: Fused, bias: torch.Tensor | None) -> Linear:
        """One product, its parts stacked where that is possible."""
        modules = [product_name(part) for part in fused.parts]
        quant = self._plan.stored_as
        if quant and any(is_quantized(quant, module, self._placed) for module in modules):
            return self._quantized(quant, fused, bias)
        dense = DenseLinear(self._matrix(fused), bias)
        target = self._plan.quantize_to
        linear = self._pack(join([quantize(dense.weight, target)], bias) if target else dense)
        if linear is not dense:
            self._give_back([self._placed[part.name] for part in fused.parts])
        return linear

    def _pack(self, linear: Linear) -> Linear:
        """For the native library, which multiplies codes faster than torch does; a processor whose
        networks are bfloat16 has products of its own for weights that are not quantised."""
        torchs = isinstance(linear, DenseLinear) and self._plan.dtype != torch.float32
        return pack_linear(linear) if self._plan.packs and not torchs else linear

    def _quantized(self, quant: QuantSpec, fused: Fused, bias: torch.Tensor | None) -> Linear:
        parts = [self._part(quant, part) for part in fused.parts]
        return self._pack(join(parts, self._bias(fused, bias)))

    def _part(self, quant: QuantSpec, part: Part) -> Linear:
        module = product_name(part)
        if not is_quantized(quant, module, self._placed):
            return DenseLinear(self.dense(Fused(part.name, (part,))))
        rows, columns = part.shape
        leaves = {
            leaf.suffix: self._placed[f"{module}.{leaf.suffix}"]
            for leaf in plan_leaves(quant, module, (rows, columns), self._placed)
        }
        views = {
            suffix: self._view(one, one).view(one.tensor.shape) for suffix, one in leaves.items()
        }
        linear = unpack(quant, module, views, columns)
        if linear.codes.untyped_storage().data_ptr() != self._data.untyped_storage().data_ptr():
            self._give_back(list(leaves.values()))
        return linear

    def _bias(self, fused: Fused, bias: torch.Tensor | None) -> torch.Tensor | None:
        """The network's own, else what a quantised checkpoint has beyond it."""
        names = [product_name(part) + BIAS for part in fused.parts]
        if bias is not None or not any(name in self._placed for name in names):
            return bias
        parts = [
            self.dense(Fused(name, (Part(name, part.shape[:1]),)))
            if name in self._placed
            else torch.zeros(part.shape[0], dtype=self._plan.dtype, device=self._plan.device)
            for name, part in zip(names, fused.parts, strict=True)
        ]
        return torch.cat(parts)

    def _view(self, first: Placed, last: Placed) -> torch.Tensor:
        span = self._data[first.at : last.at + last.tensor.num_bytes]
        return span.view(_STORED_DTYPES[first.tensor.dtype])

    def _give_back(self, placed: Sequence[Placed]) -> None:
        """Return the memory of stored bytes that nobody looks at any more, page by page."""
        if not self._plan.owns_blob:
            return
        for one in placed:
            start = one.at + -one.at % mmap.PAGESIZE
            end = (one.at + one.tensor.num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if end > start:
                self._blob.madvise(mmap.MADV_DONTNEED, start, end - start)
