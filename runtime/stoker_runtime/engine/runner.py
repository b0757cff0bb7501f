"""Runs one step of the schedule through the model.

Knows how chunks become tensors; does not know requests, sampling or time. Owns the KV cache's
memory. Called by the engine.
"""

from __future__ import annotations

import functools
import logging
import math
import mmap
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stoker_runtime.engine.orders import Clear, Compute, Score
from stoker_runtime.engine.padded import Padding
from stoker_runtime.engine.ranks import ALONE, Peers
from stoker_runtime.engine.spans import find_slots, find_table, join, spans
from stoker_runtime.engine.transfer import send
from stoker_runtime.kernels.cache import LIMITS, KvCache
from stoker_runtime.kernels.native import Library, Tiles, find_library
from stoker_runtime.kernels.ops import AttentionPlan
from stoker_runtime.kernels.program import Program
from stoker_runtime.model.attention import TiledPlan
from stoker_runtime.model.decoder import Decoder
from stoker_runtime.model.layers import Experts
from stoker_runtime.model.program import make_program
from stoker_runtime.parallel.collective import send_to_all
from stoker_runtime.schedule.step import Chunk

if TYPE_CHECKING:
    from stoker_runtime.engine.graphs import CudaRecord, Graphs
    from stoker_runtime.engine.paged import Batch, Pages

log = logging.getLogger(__name__)
_TILE = 32
"""Tokens of one sequence that the native library attends with at a time."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A step as tensors, which is computed later."""

    token_ids: torch.Tensor  # [num_tokens], some negative: see `schedule/step`
    forward: Callable[[], torch.Tensor]
    """Runs the layers over what `token_ids` holds by then: [num_tokens, hidden]."""

    def resolve(self, drawn: torch.Tensor) -> None:
        """Put in what the step before drew, [num_drawn]; −3 becomes the third of them.

        Who drew nothing (its scores were no numbers) goes on with token 0, for nobody.
        """
        ids = self.token_ids
        known = drawn.clamp(min=0)[(-1 - ids).clamp(min=0).long()]
        ids.copy_(torch.where(ids < 0, known, ids))


class Runner:
    """A model, its cache, and the way from a step to logits."""

    def __init__(
        self,
        model: Decoder,
        num_blocks: int,
        block_size: int,
        cache_dtype: torch.dtype = torch.float32,
        max_num_seqs: int = 256,
    ) -> None:
        self.model = model
        self.peers: Peers = ALONE
        self.device = model.device
        self.block_size = block_size
        self.caches = _allocate_caches(model, num_blocks, block_size, cache_dtype)
        windows = model.spec.windows
        self.padding = Padding(block_size, windows, self.caches.dtype, self.device)
        library = find_library()
        self._library = library if library and library.attends(self.caches) else None
        self._pages = _build_pages(model, num_blocks, block_size, max_num_seqs)
        self.graphs = self._build_graphs(max_num_seqs)

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> torch.Tensor:  # [num_sampling_chunks, vocab]
        """Compute the chunks' tokens; logits of those that sample, in their order."""
        ends = zip(chunks, spans(chunks), strict=True)
        rows = [end - 1 for chunk, (_, end) in ends if chunk.samples]
        return self.score(self.compute(chunks)[send(rows, torch.int64, self.device)])

    @torch.inference_mode()
    def compute(self, chunks: Sequence[Chunk]) -> torch.Tensor:  # [num_tokens, hidden]
        """Run the layers over the chunks' tokens; their hidden states, in the chunks' order."""
        return self.lay_out(chunks).forward()

    def lay_out(self, chunks: Sequence[Chunk]) -> Inputs:
        """Everything about a step that can be done before the one before it has ended."""
        inputs = self._lay_out(chunks)
        if self.peers.share.is_whole:
            return inputs

        def forward() -> torch.Tensor:
            with self.peers.together(Compute(chunks)):
                if any(id < 0 for chunk in chunks for id in chunk.token_ids):
                    send_to_all(inputs.token_ids[: sum(len(one.token_ids) for one in chunks)])
                return inputs.forward()

        return Inputs(inputs.token_ids, forward)

    def _lay_out(self, chunks: Sequence[Chunk]) -> Inputs:
        if self._pages is not None:
            return self._lay_out_paged(chunks, self._pages)
        ids = join((chunk.token_ids for chunk in chunks), self.device)
        places = join((range(chunk.start, chunk.end) for chunk in chunks), self.device)
        if self._library is None:
            return self._inputs(ids, places, self.padding.plan(chunks))
        plan, program = self._plan_tiles(chunks, self._library), self._program
        if program is None:
            return self._inputs(ids, places, plan)

        def forward() -> torch.Tensor:
            x, angles = self.model.embed_tokens(ids), self.model.angles(places)
            return program.run(x, angles, plan.slots, plan.tiles)

        return Inputs(ids, forward)

    def _inputs(self, ids: torch.Tensor, places: torch.Tensor, plan: AttentionPlan) -> Inputs:
        return Inputs(ids, lambda: self.model.hidden_states(ids, places, self.caches, plan))

    @functools.cached_property
    def _program(self) -> Program | None:
        """All layers as one call, where the native library can run them."""
        return (
            None if self._library is None else make_program(self.model, self.caches, self._library)
        )

    @torch.inference_mode()
    def score(self, hidden: torch.Tensor) -> torch.Tensor:  # [num_rows, vocab] float32
        """Logits after some rows of what `compute` returned: [num_rows, hidden]."""
        with self.peers.together(Score(len(hidden))):
            return self.model.logits(hidden)

    @property
    def can_prepare(self) -> bool:
        """There is something that would make later steps faster: recordings, on a GPU."""
        is_gpu = self.model.device.type == "cuda"
        return is_gpu and self.graphs is not None and self.graphs.are_missing

    @torch.inference_mode()
    def prepare(self) -> None:
        """Make one recording; called when there is nothing else to do."""
        assert self.graphs is not None, "`can_prepare` says whether there are any to record"
        try:
            self.graphs.record(self._record)
        except RuntimeError as error:  # torch's; steps are computed without, as they were before
            log.warning("decodes are not recorded: %s", error)
            self.graphs = None

    @functools.cached_property
    def _record(self) -> CudaRecord:
        from stoker_runtime.engine.graphs import CudaRecord

        return CudaRecord()

    def forget(self) -> None:
        """A step has failed, and with it what it was to write, of which nothing is certain."""
        if self._pages is not None:
            self._pages.forget()

    def clear(self, block_ids: Sequence[int]) -> None:
        """Forget what blocks hold: a NaN left there would spoil whoever gets them next."""
        with self.peers.together(Clear(list(block_ids))):
            self.caches.clear(send(block_ids, torch.int64, self.device))

    def _lay_out_paged(self, chunks: Sequence[Chunk], pages: Pages) -> Inputs:
        graphs, num_tokens = self.graphs, len(chunks)
        if graphs is None or any(len(chunk.token_ids) > 1 for chunk in chunks):
            size = 0
        else:
            size = graphs.find(num_tokens)
        batch = pages.lay_out(chunks, size)

        def forward() -> torch.Tensor:
            batch.write_tables()
            if graphs is None or not size:
                return self._compute_batch(batch)
            return graphs.run(batch, size)[:num_tokens]

        return Inputs(batch.token_ids, forward)

    def _compute_batch(self, batch: Batch) -> torch.Tensor:  # [num_tokens, hidden]
        inputs = (batch.token_ids, batch.positions)
        return self.model.hidden_states(*inputs, self.caches, batch.plan)

    def _build_graphs(self, max_num_seqs: int) -> Graphs | None:
        if self._pages is None or not _is_recordable(self.model):
            return None
        from stoker_runtime.engine.graphs import Graphs  # not before: a CPU needs none of it

        return Graphs(self._pages, self._compute_batch, max_num_seqs)

    def _plan_tiles(self, chunks: Sequence[Chunk], library: Library) -> TiledPlan:
        """Every chunk in tiles of a few tokens, so that threads share a prompt's work."""
        tiles, tables = array("i"), array("i")
        for chunk, (start, end) in zip(chunks, spans(chunks), strict=True):
            for row in range(start, end, _TILE):
                count = min(_TILE, end - row)
                tiles.extend((row, count, chunk.start + row - start, len(tables)))
            tables.extend(find_table(chunk, self.block_size))
        parts = [torch.frombuffer(part, dtype=torch.int32) for part in (tiles, tables)]
        slots = find_slots(chunks, self.block_size, self.device)
        return TiledPlan(slots, library, Tiles(parts[0].view(-1, 4), parts[1]))


def _is_recordable(model: Decoder) -> bool:
    """Experts that are called one by one ask the processor who has tokens: that can't be recorded.
    Sums over ranks can, but no one has tried that yet on several GPUs."""
    experts = [layer.mlp for layer in model.layers if isinstance(layer.mlp, Experts)]
    return model.spec.share.is_whole and all(one.together is not None for one in experts)


def _build_pages(
    model: Decoder, num_blocks: int, block_size: int, max_num_seqs: int
) -> Pages | None:
    if not model.ops.takes_pages:
        return None
    from stoker_runtime.engine.paged import Pages, PageSizes  # not before: a CPU needs none of it

    return Pages(model.spec, PageSizes(num_blocks, block_size, max_num_seqs), model.device)


def _allocate_caches(
    model: Decoder, num_blocks: int, block_size: int, dtype: torch.dtype
) -> KvCache:
    """Of all layers, all zero; of codes with scales.

    Zero matters: masked places are multiplied by 0, and 0 · NaN is NaN.
    """
    spec = model.spec
    heads = (spec.num_layers, 2, num_blocks, block_size, spec.num_kv_heads)
    data = _zeros((*heads, spec.head_dim), dtype, model.device)
    scales = _zeros(heads, torch.float32, model.device) if dtype in LIMITS else None
    return KvCache(data, scales)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """On a CPU an anonymous map is zero without being touched, so that what is not used costs no
    memory and no time."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    blob = mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(blob, dtype=dtype).view(shape)
