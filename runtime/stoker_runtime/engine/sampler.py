"""Draws the next token of every sequence of a step at once.

Knows logits and sampling fields; does not know the schedule or the model. Random numbers come from
the sequence's own seed and the number of its tokens: what else is in the batch makes no difference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence

_GREEDY_BELOW = 1e-5
_FIRST_WIDTH = 1024
_MASK_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token and, when asked for, its log probability and the most likely alternatives'."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def find_finite(logits: torch.Tensor) -> list[bool]:
    """Which rows of [num_rows, vocab] have scores to draw from."""
    finite: list[bool] = logits.amax(dim=-1).isfinite().tolist()
    return finite


@torch.inference_mode()
def draw_tokens(logits: torch.Tensor, seqs: Rows[Sequence]) -> list[Drawn]:
    """One token per row of [num_seqs, vocab]; log probabilities are the model's, unadjusted."""
    adjusted = _adjust(logits, seqs)
    tokens = adjusted.argmax(dim=-1)
    rows = [row for row, seq in enumerate(seqs) if seq.params.temperature > _GREEDY_BELOW]
    if rows:
        tokens[rows] = _draw(adjusted[rows], [seqs[row] for row in rows])
    return _describe(logits, tokens, seqs)


def uniform(seed: int, index: int) -> float:
    """The `index`-th random number in [0, 1) of a seed (SplitMix64, 52 bits)."""
    return (_mix(_mix(seed & _MASK_64) ^ index) >> 12) / (1 << 52)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)


def _adjust(logits: torch.Tensor, seqs: Rows[Sequence]) -> torch.Tensor:
    """Bias, penalties and banned ends; the same tensor if nobody asks for any."""
    if not any(_wants_adjustment(seq) for seq in seqs):
        return logits
    adjusted = logits.clone()
    for row, seq in zip(adjusted, seqs, strict=True):
        params = seq.params
        if params.logit_bias:
            ids = torch.tensor(list(params.logit_bias), device=row.device)
            row[ids] += torch.tensor(list(params.logit_bias.values()), device=row.device)
        if _has_penalty(params):
            _penalise(row, seq)
        if len(seq.output_ids) + 1 < params.min_tokens:
            row[[id for id in seq.stop_ids if id < len(row)]] = -math.inf
    return adjusted


def _wants_adjustment(seq: Sequence) -> bool:
    params = seq.params
    banned = len(seq.output_ids) + 1 < params.min_tokens
    return bool(params.logit_bias) or banned or _has_penalty(params)


def _has_penalty(params: SamplingParams) -> bool:
    return (
        params.presence_penalty != 0
        or params.frequency_penalty != 0
        or params.repetition_penalty != 1
    )


def _penalise(row: torch.Tensor, seq: Sequence) -> None:
    """Repetition first (prompt and answer), then frequency and presence (answer); row: [vocab]."""
    params = seq.params
    if params.repetition_penalty != 1:
        seen = torch.tensor([*{*seq.prompt_ids, *seq.output_ids}], device=row.device)
        scores, factor = row[seen], params.repetition_penalty
        row[seen] = torch.where(scores > 0, scores / factor, scores * factor)
    if seq.output_ids:
        made = Counter(seq.output_ids)
        counts = torch.tensor(list(made.values()), device=row.device)
        row[list(made)] -= params.frequency_penalty * counts + params.presence_penalty


def _draw(logits: torch.Tensor, seqs: Rows[Sequence]) -> torch.Tensor:  # [num_rows]
    """Inverse of the cumulated probabilities at each row's own random number.

    Sums run in vocabulary order and in float64, so that neither the filters of batch-mates nor
    rounding move a draw: with p = (0.5, 0.3, 0.2) and u = 0.6 the sums 0.5, 0.8, 1.0 give token 1.
    """
    temperatures = _column(logits, [seq.params.temperature for seq in seqs])
    filtered = _filter(logits / temperatures, seqs)
    sums = filtered.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    numbers = [uniform(seq.seed, len(seq.output_ids)) for seq in seqs]
    targets = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]
    return torch.searchsorted(sums, targets * sums[:, -1:], right=True)[:, 0]


def _filter(logits: torch.Tensor, seqs: Rows[Sequence]) -> torch.Tensor:
    """Top-k, then top-p of what that left, then min-p; dropped ones become -inf."""
    rows = [i for i, seq in enumerate(seqs) if seq.params.top_k > 0 or seq.params.top_p < 1]
    if rows:
        logits[rows] = _keep_top(logits[rows], [seqs[row].params for row in rows])
    if any(seq.params.min_p > 0 for seq in seqs):
        floors = [math.log(p) if (p := seq.params.min_p) > 0 else -math.inf for seq in seqs]
        least = logits.amax(dim=-1, keepdim=True) + _column(logits, floors)
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits


def _keep_top(logits: torch.Tensor, params: Rows[SamplingParams]) -> torch.Tensor:
    """Sort only as much as needed: the top 1024 nearly always hold what top-p keeps."""
    vocab = logits.shape[-1]
    limits = _column(logits, [p.top_k if 0 < p.top_k < vocab else vocab for p in params])
    masses = _column(logits, [p.top_p for p in params])
    for width in (min(_FIRST_WIDTH, vocab), vocab):
        values, ids = logits.topk(width, dim=-1)
        within = torch.arange(width, device=logits.device) < limits
        values = values.masked_fill(~within, -math.inf)
        rest = torch.where(limits > width, logits, -math.inf)  # rows whose top-k is cut off here
        total = torch.where(limits > width, rest.logsumexp(-1, True), values.logsumexp(-1, True))
        probs = (values - total).exp()
        sums = probs.cumsum(dim=-1)
        if bool(((limits <= width) | (sums[:, -1:] >= masses)).all()):
            break
    kept = within & (sums - probs < masses)
    return torch.full_like(logits, -math.inf).scatter(1, ids, values.masked_fill(~kept, -math.inf))


def _describe(logits: torch.Tensor, tokens: torch.Tensor, seqs: Rows[Sequence]) -> list[Drawn]:
    chosen: list[int] = tokens.tolist()
    drawn = [Drawn(token) for token in chosen]
    rows = [row for row, seq in enumerate(seqs) if seq.params.logprobs is not None]
    if not rows:
        return drawn
    logprobs = logits[rows].log_softmax(dim=-1)
    width = max(seqs[row].params.logprobs or 0 for row in rows)
    values, ids = (x.tolist() for x in logprobs.topk(width, dim=-1))
    own = logprobs.gather(1, tokens[rows][:, None])[:, 0].tolist()
    for index, row in enumerate(rows):
        top = tuple(zip(ids[index], values[index], strict=True))[: seqs[row].params.logprobs]
        drawn[row] = Drawn(chosen[row], own[index], top)
    return drawn


def _column(like: torch.Tensor, values: Rows[float]) -> torch.Tensor:  # [num_rows, 1]
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
