"""The share of a model that one of several ranks holds: a narrower model, a smaller checkpoint.

Knows heads, widths and where a share lies in the stored tensors; does not know torch or processes.
A share has fewer heads, a narrower MLP and fewer rows of the vocabulary, but every layer: what is
longer in the layout of the whole model than in that of its share is what is cut. Called by
`engine/loading` before anything is read, so that each rank reads its own bytes only.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace

from stoker_runtime.errors import CheckpointBroken, ConfigInvalid
from stoker_runtime.model.checkpoint import Stored
from stoker_runtime.model.layout import Part, plan_layout
from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.model.storage import BIAS, EMBED, HEAD, WEIGHT
from stoker_runtime.parallel.share import Share
from stoker_runtime.quant.layout import is_quantized, plan_leaves
from stoker_runtime.quant.spec import QuantSpec

_ORDERS = ("g_idx", "weight_g_idx")
_FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Where Phi-3 keeps what others have apart."""

Shape = tuple[int, ...]


def narrow_spec(spec: ModelSpec, share: Share) -> ModelSpec:
    """The model of one share, with its products apart. Raises `ConfigInvalid` if it can't be split.

    With fewer key heads than ranks, several ranks have the same one: 2 heads for 4 ranks go to
    ranks 0 and 1, and to 2 and 3, as their query heads do.
    """
    ranks, heads = share.ranks, spec.num_kv_heads
    _check_split("num_attention_heads", spec.num_heads, ranks)
    if heads % ranks and ranks % heads:
        raise ConfigInvalid(
            f"`tensor_parallel` must divide `num_key_value_heads` {heads} or be a multiple of it, "
            f"was {ranks}"
        )
    if not all(layer.is_sparse for layer in spec.layers):
        _check_split("intermediate_size", spec.intermediate_size, ranks)
    experts = spec.experts
    if experts is not None:
        _check_split("the experts' intermediate size", experts.intermediate_size, ranks)
        _check_split("shared_expert_intermediate_size", experts.shared_size, ranks)
        experts = replace(
            experts,
            intermediate_size=experts.intermediate_size // ranks,
            shared_size=experts.shared_size // ranks,
        )
    return replace(
        spec,
        share=share,
        family=replace(spec.family, is_fused=False),
        num_heads=spec.num_heads // ranks,
        num_kv_heads=max(1, heads // ranks),
        intermediate_size=spec.intermediate_size // ranks,
        experts=experts,
    )


def narrow_checkpoint(
    spec: ModelSpec, own: ModelSpec, stored: dict[str, Stored]
) -> dict[str, Stored]:
    """What the share `own` of a model needs of its tensors: each under its name, if it lies within
    a larger one under the name it would have apart. Raises `ConfigInvalid` for codes whose groups
    or words would be cut."""
    cutter = _Cutter(spec, own.share, stored)
    return {
        name: tensor
        for fused in plan_layout(own)
        for part in fused.parts
        for name, tensor in cutter.take(part, is_table=fused.name in (EMBED, HEAD))
    }


@dataclass(frozen=True, slots=True)
class _Cut:
    """So many rows or columns of a stored tensor."""

    axis: int
    start: int
    length: int
    total: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part of the share lies."""

    module: str
    """Its name in the share."""
    source: str
    """The name under which it is stored."""
    shape: Shape
    """Of all that is stored there."""
    cut: _Cut | None
    """None: all of it."""

    @property
    def is_summand(self) -> bool:
        """Columns are cut: each rank's product is a part of a sum."""
        return self.cut is not None and self.cut.axis == 1


class _Cutter:
    """Finds shares of tensors in those of the whole model."""

    def __init__(self, spec: ModelSpec, share: Share, stored: dict[str, Stored]) -> None:
        apart = replace(spec, family=replace(spec.family, is_fused=False))
        self._spec = spec
        self._share = share
        self._stored = stored
        self._whole = {
            part.name: part.shape for fused in plan_layout(apart) for part in fused.parts
        }

    def take(self, part: Part, *, is_table: bool) -> Iterator[tuple[str, Stored]]:
        """One tensor of the share, or several where it is stored as codes."""
        place, quant = self._find(part, is_table), self._spec.quantization
        suffix = part.name.removeprefix(place.module)
        if quant and suffix == WEIGHT and is_quantized(quant, place.source, self._stored):
            yield from self._take_codes(quant, part, place)
            yield from self._take_bias(place)
        else:
            yield part.name, _apply(self._stored[place.source + suffix], place.cut)

    def _find(self, part: Part, is_table: bool) -> _Place:
        """Of 2 key heads of 16 for 4 ranks, rank 1's begins at 32 · 1 / 4 = 8, and so at 0; the
        rows of a vocabulary begin anywhere."""
        module = part.name.rpartition(".")[0]
        every = self._whole[part.name]
        source, first, rows = self._find_source(module, every[0])
        shape = (rows, *every[1:])
        for axis, (length, total) in enumerate(zip(part.shape, shape, strict=True)):
            if length != total:
                start = self._share.cut(every[axis]).start
                start -= 0 if is_table else start % length
                return _Place(module, source, shape, _Cut(axis, first + start, length, total))
        return _Place(module, source, shape, None)

    def _find_source(self, module: str, rows: int) -> tuple[str, int, int]:
        """What stores a module of so many rows, the first of them there, and how many that has."""
        stem, _, name = module.rpartition(".")
        if not self._spec.family.is_fused or name not in _FUSED:
            return module, 0, rows
        spec, source = self._spec, _FUSED[name]
        firsts = {"k_proj": spec.q_size, "v_proj": spec.q_size + spec.kv_size, "up_proj": rows}
        total = 2 * rows if source == "gate_up_proj" else spec.q_size + 2 * spec.kv_size
        return f"{stem}.{source}", firsts.get(name, 0), total

    def _take_codes(
        self, quant: QuantSpec, part: Part, place: _Place
    ) -> Iterator[tuple[str, Stored]]:
        source = place.source
        _check_groups(quant, place)
        try:
            mine = plan_leaves(quant, source, (part.shape[0], part.shape[1]), self._stored)
        except CheckpointBroken as error:
            raise _uneven(source, "words of codes") from error
        whole = plan_leaves(quant, source, (place.shape[0], place.shape[1]), self._stored)
        for leaf, all in zip(mine, whole, strict=True):
            tensor = self._stored[f"{source}.{leaf.suffix}"]
            if place.is_summand and leaf.suffix in _ORDERS:
                _check_order(tensor, source, quant.group_size)
                continue  # what is left of it is the order that is assumed without it
            cut = _scale(source, place.cut, leaf.shape, all.shape)
            yield f"{place.module}.{leaf.suffix}", _apply(tensor, cut)

    def _take_bias(self, place: _Place) -> Iterator[tuple[str, Stored]]:
        """One that a quantised checkpoint has beyond the network's; added to a sum once."""
        name, stored = place.module + BIAS, self._stored.get(place.source + BIAS)
        if stored is None or name in self._whole:
            return
        if not place.is_summand:
            yield name, _apply(stored, place.cut)
        elif self._share.leads:
            yield name, stored


def _apply(tensor: Stored, cut: _Cut | None) -> Stored:
    return tensor if cut is None else tensor.cut(cut.axis, cut.start, cut.length)


def _scale(module: str, cut: _Cut | None, mine: Shape, whole: Shape) -> _Cut | None:
    """The same cut of a tensor of words, scales or zeros: 64 of 128 columns are 8 of 16 words."""
    for axis, (length, total) in enumerate(zip(mine, whole, strict=True)):
        if cut is not None and length != total:
            start, rest = divmod(cut.start * total, cut.total)
            if rest or length * cut.total != total * cut.length:
                raise _uneven(module, "words of codes")
            return _Cut(axis, start, length, total)
    return None


def _check_split(field: str, value: int, ranks: int) -> None:
    if value % ranks:
        raise ConfigInvalid(f"`tensor_parallel` must divide {field} {value}, was {ranks}")


def _check_groups(quant: QuantSpec, place: _Place) -> None:
    """One group of all columns is everybody's."""
    cut, size = place.cut, quant.group_size
    if cut is not None and cut.axis == 1 and 0 < size < cut.total and cut.length % size:
        raise _uneven(place.source, f"groups of {size} columns")


def _uneven(module: str, what: str) -> ConfigInvalid:
    return ConfigInvalid(f"`tensor_parallel` would cut {what} of {module}: choose fewer ranks")


def _check_order(order: Stored, module: str, group_size: int) -> None:
    """Columns in the order of activations belong to groups all over: no share has whole ones."""
    groups = array("i")
    with order.file.open("rb") as stream:
        groups.frombytes(os.pread(stream.fileno(), order.num_bytes, order.offset))
    size = group_size or len(groups)
    if any(group != column // size for column, group in enumerate(groups)):
        raise ConfigInvalid(
            f"`tensor_parallel` must be 1: the columns of {module} are in activation order "
            f"({order.name}), which can't be split"
        )
