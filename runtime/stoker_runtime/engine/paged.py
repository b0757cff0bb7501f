"""Turns steps into tensors for kernels that read block tables where they lie.

Knows chunks, and which row of a standing table each sequence's blocks are written to; does not know
layers or sampling. Used by the runner where a model computes with `kernels/gpu`. What a step needs
goes to the device in one copy, and of a block table only what is new.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from stoker_runtime.engine.transfer import send_tensor
from stoker_runtime.kernels.gpu.attention import MAX_GROUP, PagedPlan, Tiles, tokens_per_tile
from stoker_runtime.kernels.gpu.norm import MAX_HIDDEN
from stoker_runtime.kernels.gpu.turn import MAX_HEAD_DIM
from stoker_runtime.kernels.reference import Heads
from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.schedule.step import Chunk

_MULTIPLE = 16
"""Of which sizes have to be multiples: kernels load 16 bytes at once."""
_NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """One step on the device."""

    token_ids: torch.Tensor  # [num_tokens] int32
    positions: torch.Tensor  # [num_tokens] int32
    plan: PagedPlan
    sent: torch.Tensor
    """All that was sent, in one piece; of decodes alone the first 7 numbers of each are the whole
    step: token, position, slot and a tile of 4."""
    places: torch.Tensor  # [num_new] int32: where in the tables something is new
    block_ids: torch.Tensor  # [num_new] int32: and what

    def write_tables(self) -> None:
        """Before it is computed, and not while another step reads the tables."""
        if len(self.places):
            self.plan.decodes.tables[self.places.long()] = self.block_ids


@dataclass(frozen=True, slots=True)
class PageSizes:
    """What the tables have to have room for."""

    num_blocks: int
    block_size: int
    max_num_seqs: int
    """Sequences of one step."""


@dataclass(slots=True)
class _Row:
    """What is written in one row of the tables."""

    index: int
    block_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class _Lists:
    """What a step needs, as numbers, in the order in which they are sent."""

    token_ids: array[int] = field(default_factory=lambda: array("i"))
    positions: array[int] = field(default_factory=lambda: array("i"))
    slots: array[int] = field(default_factory=lambda: array("i"))
    decodes: array[int] = field(default_factory=lambda: array("i"))
    prompts: array[int] = field(default_factory=lambda: array("i"))
    places: array[int] = field(default_factory=lambda: array("i"))
    block_ids: array[int] = field(default_factory=lambda: array("i"))

    @property
    def all(self) -> list[array[int]]:
        """In the order in which they are sent."""
        return [getattr(self, name) for name in self.__slots__]

    def send(self, device: torch.device) -> torch.Tensor:
        """All of them on the device, by one copy that nobody waits for."""
        joined = array("i")
        for one in self.all:
            joined.extend(one)
        return send_tensor(torch.frombuffer(joined, dtype=torch.int32), device)


def fits_kernels(spec: ModelSpec, block_size: int) -> bool:
    """Whether the kernels are compiled for a model of these sizes; else torch computes it."""
    widths = [spec.hidden_size, spec.head_dim, spec.intermediate_size]
    if spec.experts is not None:
        widths += [spec.experts.intermediate_size, spec.experts.shared_size]
    return (
        all(width % _MULTIPLE == 0 for width in widths)
        and spec.hidden_size <= MAX_HIDDEN
        and spec.head_dim <= MAX_HEAD_DIM
        and spec.num_heads // spec.num_kv_heads <= MAX_GROUP
        and block_size.bit_count() == 1
    )


class Pages:
    """The block tables of the running sequences, on the device."""

    def __init__(self, spec: ModelSpec, sizes: PageSizes, device: torch.device) -> None:
        self._block_size = sizes.block_size
        self._width = min(sizes.num_blocks, -(-spec.max_position // sizes.block_size))
        num_places = sizes.max_num_seqs * self._width
        self._tables = torch.zeros(num_places, dtype=torch.int32, device=device)
        heads, has_softcap = (
            Heads(spec.num_heads, spec.num_kv_heads),
            spec.score_softcap is not None,
        )
        self._tile = tokens_per_tile(heads, spec.head_dim, device, has_softcap=has_softcap)
        self._rows: dict[str, _Row] = {}
        self._free = list(range(sizes.max_num_seqs - 1, -1, -1))

    def lay_out(self, chunks: Sequence[Chunk], num_padded: int = 0) -> Batch:
        """The tensors of a step; with `num_padded`, decodes for nobody are added until it has so
        many tokens: they attend to the token at the first place of the tables and store nothing.
        """
        lists = _Lists()
        self._make_room(chunks)
        for chunk in chunks:
            self._add(chunk, lists)
        for row in range(len(lists.token_ids), num_padded):
            lists.decodes.extend((row, 1, 0, 0))
            lists.token_ids.append(0)
            lists.positions.append(0)
            lists.slots.append(_NO_SLOT)
        sizes = [len(one) for one in lists.all]
        return self._view(lists.send(self._tables.device), sizes)

    def view(self, sent: torch.Tensor, num_decodes: int) -> Batch:
        """What was sent for a step of decodes alone."""
        return self._view(sent, [num_decodes, num_decodes, num_decodes, 4 * num_decodes, 0, 0, 0])

    def forget(self) -> None:
        """What the tables hold is not certain: write them anew."""
        for row in self._rows.values():
            row.block_ids = ()

    def _view(self, sent: torch.Tensor, sizes: list[int]) -> Batch:
        token_ids, positions, slots, decodes, prompts, *new = sent.split_with_sizes(sizes)
        most_keys = self._width * self._block_size
        tiles = [Tiles(one.view(-1, 4), self._tables, most_keys) for one in (prompts, decodes)]
        return Batch(token_ids, positions, PagedPlan(slots, *tiles), sent, *new)

    def _make_room(self, chunks: Sequence[Chunk]) -> None:
        """Rows for newcomers, if need be those of sequences that are not in the step."""
        present = {chunk.seq_id for chunk in chunks}
        newcomers = [id for id in present if id not in self._rows]
        if len(newcomers) > len(self._free):
            for absent in [id for id in self._rows if id not in present]:
                self._free.append(self._rows.pop(absent).index)
        for id in newcomers:
            self._rows[id] = _Row(self._free.pop())

    def _add(self, chunk: Chunk, lists: _Lists) -> None:
        first_row, num_tokens = len(lists.token_ids), len(chunk.token_ids)
        place = self._write_table(chunk, lists)
        lists.token_ids.extend(chunk.token_ids)
        lists.slots.extend(chunk.slots(self._block_size))
        if num_tokens == 1:
            lists.positions.append(chunk.start)
            lists.decodes.extend((first_row, 1, chunk.start, place))
            return
        lists.positions.extend(range(chunk.start, chunk.end))
        for start in range(0, num_tokens, self._tile):
            count = min(self._tile, num_tokens - start)
            lists.prompts.extend((first_row + start, count, chunk.start + start, place))

    def _write_table(self, chunk: Chunk, lists: _Lists) -> int:
        """Note what of the chunk's table is not yet on the device; where its row begins."""
        row = self._rows[chunk.seq_id]
        place, known = row.index * self._width, len(row.block_ids)
        if chunk.block_ids is row.block_ids:  # mostly: see `BlockPool.table`
            return place
        if chunk.block_ids[:known] != row.block_ids:
            known = 0
        if known < len(chunk.block_ids):
            new = chunk.block_ids[known : self._width]
            lists.places.extend(range(place + known, place + known + len(new)))
            lists.block_ids.extend(new)
        row.block_ids = chunk.block_ids
        return place
