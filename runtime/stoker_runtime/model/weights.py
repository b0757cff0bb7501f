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

from stoker_runtime.kernels.embedding import DenseEmbedding, Embedding, PanelEmbedding
from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.kernels.packed import PackedLinear, adopt_panels, pack_linear
from stoker_runtime.kernels.panels import PANEL
from stoker_runtime.model.layout import Fused, Part
from stoker_runtime.model.reader import Placed
from stoker_runtime.model.storage import BIAS, EMBED, HEAD, WEIGHT, is_product, product_name
from stoker_runtime.model.upload import send_blob
from stoker_runtime.quant.join import join
from stoker_runtime.quant.layout import is_quantized, plan_leaves
from stoker_runtime.quant.rounding import quantize
from stoker_runtime.quant.spec import QuantSpec, Target
from stoker_runtime.quant.unpack import unpack

TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CACHE_DTYPES = {**TORCH_DTYPES, "int8": torch.int8, "fp8": torch.float8_e4m3fn}
_HALVES = (torch.bfloat16, torch.float16)
_STORED_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I32": torch.int32,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What a checkpoint holds, as the decoder wants it."""

    tensors: Mapping[str, torch.Tensor]
    """Norms and what else is neither looked up nor a product, by their names in the layout."""
    embed: Embedding
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
    """Products go to the native library, with weights in the dtype they are stored in."""
    gpu: bool = False
    """Products of codes go to kernels for GPUs."""
    owns_blob: bool = False
    """Nobody else will read it again, so that what was copied is given back at once."""


def build_weights(
    blob: mmap.mmap, layout: Sequence[Fused], placed: Mapping[str, Placed], plan: WeightPlan
) -> Weights:
    """The decoder's weights; the parts of the blob that were copied are empty afterwards."""
    source = _Source(blob, placed, plan)
    by_name = {fused.name: fused for fused in layout}
    others = by_name.keys() - {EMBED, HEAD} - {one.name for one in layout if is_product(one)}
    tensors = {name: source.dense(by_name[name]) for name in others}
    linears: dict[str, Linear] = {}
    for fused in layout:
        if is_product(fused):
            name = fused.name.removesuffix(WEIGHT)
            linears[name] = source.product(fused, tensors.get(name + BIAS))
    linears[HEAD] = source.head(by_name)
    return Weights(tensors, source.embedding(by_name[EMBED]), linears)


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
        data = torch.frombuffer(blob, dtype=torch.uint8)
        self._data = send_blob(data, plan.device)  # [num_bytes]

    def dense(self, fused: Fused) -> torch.Tensor:
        """One tensor in the wanted dtype."""
        if (stored := self._stored(fused)) is not None:
            return stored.to(self._plan.dtype)
        parts = [self._placed[part.name] for part in fused.parts]
        return torch.cat([self._view(one, one).to(self._plan.dtype) for one in parts]).view(
            fused.shape
        )

    def embedding(self, fused: Fused) -> Embedding:
        """As it is stored; rows become the wanted dtype when they are looked up."""
        panels = self._panels(fused)
        if panels is None:
            stored = self._stored(fused)
            assert stored is not None, "one part has one dtype"
            return DenseEmbedding(stored, self._plan.dtype)
        return PanelEmbedding(panels, self._dtype_of(fused), self._plan.dtype)

    def head(self, layout: Mapping[str, Fused]) -> Linear:
        """The product that makes logits, from the embedding if it has no weight of its own.

        Rounded to 8 bits at most: 4 bits of it cost more accuracy than those of all layers.
        """
        target = self._plan.quantize_to
        least: Target | None = "int8" if target == "int4" else target
        return self._made(layout.get(HEAD, layout[EMBED]), None, least)

    def product(self, fused: Fused, bias: torch.Tensor | None) -> Linear:
        """One product, its parts stacked where that is possible."""
        modules = [product_name(part) for part in fused.parts]
        quant = self._plan.stored_as
        if quant and any(is_quantized(quant, module, self._placed) for module in modules):
            return self._quantized(quant, fused, bias)
        return self._made(fused, bias, self._plan.quantize_to)

    def _made(self, fused: Fused, bias: torch.Tensor | None, target: Target | None) -> Linear:
        """A product of numbers, maybe rounded; what was copied is given back, unless rows are
        still to be looked up in it."""
        if target is None:
            linear = self._multiplied(fused, bias)
        else:
            linear = self._pack(join([quantize(self.dense(fused), target)], bias))
        is_copied = isinstance(linear, PackedLinear) and self._panels(fused) is None
        if (target or is_copied) and fused.name != EMBED:
            self._give_back([self._placed[part.name] for part in fused.parts])
        return linear

    def _multiplied(self, fused: Fused, bias: torch.Tensor | None) -> Linear:
        """A product of numbers: out of the panels that readers made, or packed now if they could
        not (rows of fewer than a panel); torch's own in networks that are not float32."""
        if not self._plan.packs or self._plan.dtype != torch.float32:
            return DenseLinear(self.dense(fused), bias)
        if (panels := self._panels(fused)) is not None:
            return adopt_panels(panels, self._dtype_of(fused), bias)
        stored = self._stored(fused)
        if stored is not None and stored.dtype in _HALVES:
            packed = pack_linear(DenseLinear(stored, bias))
            if isinstance(packed, PackedLinear):
                return packed
        return pack_linear(DenseLinear(self.dense(fused), bias))

    def _panels(self, fused: Fused) -> torch.Tensor | None:  # [panels, units, 16] int32
        panels = self._placed[fused.parts[0].name].panels
        if panels is None:
            return None
        data = self._data[panels.at : panels.at + panels.num_bytes]
        return data.view(torch.int32).view(panels.rows // PANEL, -1, PANEL)

    def _stored(self, fused: Fused) -> torch.Tensor | None:
        """The numbers of the checkpoint, a view if they lie row by row; None if dtypes differ."""
        placed = [self._placed[part.name] for part in fused.parts]
        if len({one.tensor.dtype for one in placed}) > 1:
            return None
        if (panels := self._panels(fused)) is None:
            return self._view(placed[0], placed[-1]).view(fused.shape)
        rows = panels.transpose(1, 2).reshape(fused.shape[0], -1)
        return rows.view(self._dtype_of(fused))

    def _dtype_of(self, fused: Fused) -> torch.dtype:
        return _STORED_DTYPES[self._placed[fused.parts[0].name].tensor.dtype]

    def _pack(self, linear: Linear) -> Linear:
        """Codes for those who multiply them faster than torch does."""
        if self._plan.gpu:
            from stoker_runtime.kernels.gpu import linear as gpu  # not before: a CPU needs none

            return gpu.pack_linear(linear)
        return pack_linear(linear) if self._plan.packs else linear

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
