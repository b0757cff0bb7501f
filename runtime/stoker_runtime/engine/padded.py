"""Turns steps into tensors for attention by torch: decodes in padded groups, prompts one by one.

Knows chunks and their block tables; does not know layers. Used by the runner where neither kernels
nor the native library attend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.engine.spans import find_slots, find_table, spans
from stoker_runtime.engine.transfer import send
from stoker_runtime.model.attention import DecodeGroup, PaddedPlan, PrefillSpan
from stoker_runtime.schedule.step import Chunk

_SMALLEST_BUCKET = 2
"""Decodes of up to 2² blocks share a group, longer ones are grouped by powers of two."""


@dataclass(frozen=True, slots=True)
class Padding:
    """What plans depend on besides the step."""

    block_size: int
    windows: tuple[int, ...]
    """Of the model's layers."""
    dtype: torch.dtype
    """Of masks: what attention is computed in."""
    device: torch.device

    def plan(self, chunks: Sequence[Chunk]) -> PaddedPlan:
        """A step's attention."""
        buckets: dict[int, list[tuple[int, Chunk]]] = {}
        prefills = []
        for chunk, (start, end) in zip(chunks, spans(chunks), strict=True):
            if end - start == 1:
                num_blocks = len(find_table(chunk, self.block_size))
                bucket = max(_SMALLEST_BUCKET, (num_blocks - 1).bit_length())
                buckets.setdefault(bucket, []).append((start, chunk))
            else:
                prefills.append(self._plan_prefill(chunk, slice(start, end)))
        decodes = tuple(self._plan_decodes(bucket) for bucket in buckets.values())
        slots = find_slots(chunks, self.block_size, self.device)
        return PaddedPlan(slots, decodes, tuple(prefills))

    def _plan_decodes(self, rows_and_chunks: list[tuple[int, Chunk]]) -> DecodeGroup:
        rows = [row for row, _ in rows_and_chunks]
        tables = [find_table(chunk, self.block_size) for _, chunk in rows_and_chunks]
        width = max(map(len, tables))
        newest = self._send([chunk.end - 1 for _, chunk in rows_and_chunks])
        masks = self._masks(newest[:, None], width * self.block_size)
        contiguous = rows[-1] - rows[0] == len(rows) - 1
        return DecodeGroup(
            rows=slice(rows[0], rows[-1] + 1) if contiguous else self._send(rows),
            num_seqs=len(rows),
            block_ids=self._send(
                [block for table in tables for block in table + (0,) * (width - len(table))]
            ),
            masks={window: mask[:, None, None, :] for window, mask in masks.items()},
        )

    def _plan_prefill(self, chunk: Chunk, rows: slice) -> PrefillSpan:
        queries = torch.arange(chunk.start, chunk.end, device=self.device)
        masks = self._masks(queries[:, None], chunk.end)
        return PrefillSpan(rows, chunk.start, self._send(find_table(chunk, self.block_size)), masks)

    def _masks(self, queries: torch.Tensor, num_keys: int) -> dict[int, torch.Tensor]:
        """[num_queries, num_keys] per window: keys in the future and before it are hidden.

        queries: their positions, [num_queries, 1]. With a window of 4, token 10 sees 7 to 10.
        """
        keys = torch.arange(num_keys, device=self.device)
        masks = {}
        for window in self.windows:
            hidden = keys > queries
            if window:
                hidden = hidden | (keys <= queries - window)
            mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
            masks[window] = mask.masked_fill_(hidden, -math.inf)
        return masks

    def _send(self, values: Sequence[int]) -> torch.Tensor:
        return send(values, torch.int64, self.device)
