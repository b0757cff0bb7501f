"""Attention over a paged cache, for steps that mix prompts and decodes.

Knows block tables as tensors; does not know sequences or the scheduler. The runner builds one
`AttentionPlan` per step, every layer's `Attention` uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.native import Tiles, find_library
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
    """[blocks]; unused when the span is the start of its sequence."""
    masks: Masks
    """Each [num_tokens, start + num_tokens], -inf for tokens in the future and before the window.
    """

    @property
    def end(self) -> int:
        """Tokens of the sequence up to the last of these."""
        return self.start + int(self.rows.stop - self.rows.start)


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Who attends to what in one step."""

    slots: torch.Tensor
    """Where each token's key and value go: [num_tokens]."""
    decodes: tuple[DecodeGroup, ...] = ()
    prefills: tuple[PrefillSpan, ...] = ()
    tiles: Tiles | None = None
    """All tokens for the native library, instead of `decodes` and `prefills`."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What one layer's attention differs in from another's."""

    scoring: Scoring
    window: int = 0
    """Tokens that a token sees, itself included; 0: all."""

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cache: torch.Tensor,
        plan: AttentionPlan,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Store the new keys and values in the layer's cache, then attend to it in its dtype.

        q: [num_tokens, num_heads, head_dim]; k, v: [num_tokens, num_kv_heads, head_dim]; cache:
        [2, num_blocks, block_size, num_kv_heads, head_dim].
        """
        dtype, (q, k, v) = q.dtype, (x.to(cache.dtype) for x in (q, k, v))
        reference.write_kv(cache, k, v, plan.slots)
        if plan.tiles is not None:
            return self._attend_natively(q, cache, plan.tiles).to(dtype)
        out = torch.empty_like(q)
        for group in plan.decodes:
            past = reference.read_kv(cache, group.block_ids, group.num_seqs)
            mask = group.masks[self.window]
            out[group.rows] = reference.attend_decodes(q[group.rows], *past, mask, self.scoring)
        for span in plan.prefills:
            keys, values = k[span.rows], v[span.rows]
            if span.start > 0:
                past = reference.read_kv(cache, span.block_ids, 1)
                keys, values = (x[0, : span.end] for x in past)
            mask = span.masks[self.window]
            out[span.rows] = reference.attend_chunk(q[span.rows], keys, values, mask, self.scoring)
        return out.to(dtype)

    def _attend_natively(
        self, q: torch.Tensor, cache: torch.Tensor, tiles: Tiles
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        library = find_library()
        assert library is not None, "the plan was made for the native library"
        q = q if q.stride()[1:] == (q.shape[2], 1) else q.contiguous()
        return library.attend(q, cache, tiles, self.scoring, self.window)
