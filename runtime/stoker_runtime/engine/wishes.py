"""What the rows of a batch ask of the sampler, as tensors.

Knows sampling fields; does not know scores. Built by the sampler when the batch changes and used
for all steps until it changes again, so that a step costs no Python per row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from stoker_runtime.engine.tally import has_penalty
from stoker_runtime.engine.transfer import send
from stoker_runtime.schedule.sequence import Sequence

GREEDY_BELOW = 1e-5
"""Temperatures down to 0 that mean the likeliest token."""
_TILE_SCORES = 1 << 19
"""Scores that are turned into draws at once: 2 MiB, so that intermediates stay in the cache of a
core; 32 rows of 49152 took 29 ms in one piece."""


@dataclass(frozen=True, slots=True)
class Entries:
    """Single entries of [num_rows, vocab]."""

    rows: torch.Tensor  # [num_entries]
    ids: torch.Tensor  # [num_entries]
    values: torch.Tensor  # [num_entries]


@dataclass(frozen=True, slots=True)
class Draws:
    """Some rows whose token is drawn at random, and how. Columns are [num_rows, 1]."""

    rows: torch.Tensor  # [num_rows]
    seeds: torch.Tensor  # [num_rows] int64
    temperatures: torch.Tensor
    top_k: torch.Tensor | None
    """Tokens kept, infinity for 0; None, as below, when no row asks."""
    top_p: torch.Tensor | None
    min_p: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """Everything that a batch asks; None or empty where nobody does."""

    bias: Entries | None = None
    bans: Entries | None = None
    """End tokens of rows with a least length; `values` is the number of tokens until then."""
    penalised: tuple[int, ...] = ()
    draws: tuple[Draws, ...] = ()
    logprobs: tuple[int, ...] = ()
    """Rows that want log probabilities."""


def build_wishes(seqs: Rows[Sequence], vocab: int, device: torch.device) -> Wishes:
    """Read the sampling fields of each row once."""
    bias = [
        (row, id, value)
        for row, seq in enumerate(seqs)
        for id, value in seq.params.logit_bias.items()
    ]
    bans = [
        (row, id, float(seq.params.min_tokens))
        for row, seq in enumerate(seqs)
        if seq.params.min_tokens > 0
        for id in seq.stop_ids
        if id < vocab
    ]
    tile = max(1, _TILE_SCORES // vocab)
    drawn = [row for row, seq in enumerate(seqs) if seq.params.temperature > GREEDY_BELOW]
    return Wishes(
        bias=_entries(bias, device),
        bans=_entries(bans, device),
        penalised=tuple(row for row, seq in enumerate(seqs) if has_penalty(seq.params)),
        draws=tuple(
            _build_draws(drawn[start : start + tile], seqs, device)
            for start in range(0, len(drawn), tile)
        ),
        logprobs=find_scored(seqs),
    )


def find_scored(seqs: Rows[Sequence]) -> tuple[int, ...]:
    """Rows that want log probabilities."""
    return tuple(row for row, seq in enumerate(seqs) if seq.params.logprobs is not None)


def _build_draws(rows: list[int], all_seqs: Rows[Sequence], device: torch.device) -> Draws:
    def column(values: Rows[float]) -> torch.Tensor:
        return send(values, torch.float32, device)[:, None]

    seqs = [all_seqs[row] for row in rows]
    params = [seq.params for seq in seqs]
    return Draws(
        rows=send(rows, torch.int64, device),
        seeds=send([signed(seq.seed) for seq in seqs], torch.int64, device),
        temperatures=column([p.temperature for p in params]),
        top_k=column([p.top_k or math.inf for p in params])
        if any(p.top_k for p in params)
        else None,
        top_p=column([p.top_p for p in params]) if any(p.top_p < 1 for p in params) else None,
        min_p=column([p.min_p for p in params]) if any(p.min_p for p in params) else None,
    )


def _entries(entries: list[tuple[int, int, float]], device: torch.device) -> Entries | None:
    if not entries:
        return None
    rows, ids, values = zip(*entries, strict=True)
    return Entries(
        send(rows, torch.int64, device),
        send(ids, torch.int64, device),
        send(values, torch.float32, device),
    )


def signed(seed: int) -> int:
    """The lowest 64 bits as torch holds them."""
    return ((seed + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)
