"""Attention over a paged cache, for steps that mix prompts and decodes.

Knows block tables as tensors; does not know sequences or the scheduler. The runner builds one plan
per step, an `ops.AttentionPlan`, and every layer attends by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.native import Library, Tiles
from stoker_runtime.kernels.reference import Scoring

Masks = Mapping[int, torch.Tensor]
"""One mask per length of window in the model; 0 is the mask without a window."""


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Sequences of similar length with one new token each, attended to together."""

    rows: slice | torch.Tensor
    """Their tokens in the step: a range, or [num_seqs]."""
    num_seqs: int
    block_ids: torch.Tensor
    """Their block tables, padded to the longest and flat: [num_seqs · blocks]."""
    masks: Masks
    """Each [num_seqs, 1, 1, blocks · block_size], -inf beyond each sequence's end and before its
    window."""


@dataclass(frozen=True, slots=True)
class PrefillSpan:
    """Several consecutive tokens of one sequence."""

    rows: slice
    """Its tokens in the step."""
    start: int
    """Position of the first of them."""
    block_ids: torch.Tensor
    """[blocks]"""
    masks: Masks
    """Each [num_tokens, start + num_tokens], -inf for tokens in the future and before the window.
    """

    @property
    def end(self) -> int:
        """Tokens of the sequence up to the last of these."""
        return self.start + int(self.rows.stop - self.rows.start)


@dataclass(frozen=True, slots=True)
class PaddedPlan:
    """Attention by torch: sequences of similar length together, and each prompt's part alone."""

    slots: torch.Tensor
    """See `AttentionPlan`."""
    decodes: tuple[DecodeGroup, ...] = ()
    prefills: tuple[PrefillSpan, ...] = ()

    def attend(
        self, q: torch.Tensor, cache: KvCache, scoring: Scoring
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """See `AttentionPlan`; computed in the cache's dtype."""
        dtype, q = q.dtype, q.to(cache.dtype)
        out = torch.empty_like(q)
        for group in self.decodes:
            past = reference.read_kv(cache, group.block_ids, group.num_seqs)
            mask = group.masks[scoring.window]
            out[group.rows] = reference.attend_decodes(q[group.rows], *past, mask, scoring)
        for span in self.prefills:
            past = reference.read_kv(cache, span.block_ids, 1)
            keys, values = (x[0, : span.end] for x in past)
            mask = span.masks[scoring.window]
            out[span.rows] = reference.attend_chunk(q[span.rows], keys, values, mask, scoring)
        return out.to(dtype)


@dataclass(frozen=True, slots=True)
class TiledPlan:
    """Attention by the native library."""

    slots: torch.Tensor
    """See `AttentionPlan`."""
    library: Library
    tiles: Tiles

    def attend(
        self, q: torch.Tensor, cache: KvCache, scoring: Scoring
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """See `AttentionPlan`; computed in float32."""
        wide = q.to(cache.dtype)
        wide = wide if wide.stride()[1:] == (q.shape[2], 1) else wide.contiguous()
        return self.library.attend(wide, cache, self.tiles, scoring).to(q.dtype)
