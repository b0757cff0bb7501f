"""Draws the next token of every sequence of a step at once.

Knows logits and sampling fields; does not know the schedule or the model. Random numbers come from
the sequence's own seed and the number of its tokens: what else is in the batch makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stoker_runtime.engine.chance import uniforms
from stoker_runtime.engine.logprobs import rank_tokens
from stoker_runtime.engine.tally import Tally
from stoker_runtime.engine.truncation import draw_at, find_largest, keep_largest
from stoker_runtime.engine.wishes import Draws, Wishes, build_wishes
from stoker_runtime.schedule.sequence import Sequence

if TYPE_CHECKING:
    from stoker_runtime.engine.asked import KernelDraws


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


class Sampler:
    """Draws, and remembers what the batch asks for and what its sequences said."""

    def __init__(self, *, by_kernel: bool = False) -> None:
        """With `by_kernel`, `kernels/gpu` draws, where the scores are."""
        self._by_kernel = by_kernel
        self._kernel_draws: KernelDraws | None = None
        self._tally = Tally()
        self._seqs: list[Sequence] = []
        self._wishes = Wishes(None, None, (), (), ())

    @torch.inference_mode()
    def draw(self, logits: torch.Tensor, seqs: Rows[Sequence]) -> list[Drawn | None]:
        """One token per row of [num_seqs, vocab], None for a row whose scores are no numbers.

        Log probabilities are the model's, unadjusted.
        """
        if self._by_kernel:
            return self._draw_by_kernel(logits, seqs)
        finite = find_finite(logits)
        if all(finite):
            return list(self._draw_finite(logits, seqs))
        good = [seq for seq, is_finite in zip(seqs, finite, strict=True) if is_finite]
        drawn = iter(self._draw_finite(logits[finite], good) if good else ())
        return [next(drawn) if is_finite else None for is_finite in finite]

    def _draw_finite(self, logits: torch.Tensor, seqs: Rows[Sequence]) -> list[Drawn]:
        wishes = self._read(seqs, logits)
        adjusted = self._adjust(logits, seqs, wishes)
        if sum(len(draws.seqs) for draws in wishes.draws) == len(seqs):
            tokens = torch.empty(len(seqs), dtype=torch.int64, device=logits.device)
        else:
            tokens = find_largest(adjusted)
        for draws in wishes.draws:
            tokens[draws.rows] = _draw(adjusted[draws.rows], draws)
        return _describe(logits, tokens.tolist(), seqs, wishes.logprobs)

    def _draw_by_kernel(self, logits: torch.Tensor, seqs: Rows[Sequence]) -> list[Drawn | None]:
        wishes = self._read(seqs, logits)
        assert self._kernel_draws is not None, "made with the wishes"
        tokens = self._kernel_draws.draw(self._adjust(logits, seqs, wishes))
        known = [0 if token is None else token for token in tokens]
        drawn = _describe(logits, known, seqs, wishes.logprobs)
        return [None if token is None else one for token, one in zip(tokens, drawn, strict=True)]

    def forget(self, seq_id: str) -> None:
        """A sequence has ended."""
        self._tally.forget(seq_id)
        self._seqs = []

    @property
    def num_remembered(self) -> int:
        """Sequences whose tokens are counted."""
        return len(self._tally)

    def _read(self, seqs: Rows[Sequence], logits: torch.Tensor) -> Wishes:
        """The wishes of the last step, if the batch is the same."""
        known = self._seqs
        if len(known) != len(seqs) or any(a is not b for a, b in zip(known, seqs, strict=True)):
            self._seqs = list(seqs)
            self._wishes = build_wishes(seqs, logits.shape[-1], logits.device)
            self._kernel_draws = self._build_kernel_draws(logits.device)
        return self._wishes

    def _build_kernel_draws(self, device: torch.device) -> KernelDraws | None:
        if not self._by_kernel:
            return None
        from stoker_runtime.engine.asked import KernelDraws  # not before: a CPU needs none of it

        return KernelDraws(self._seqs, device)

    def _adjust(
        self, logits: torch.Tensor, seqs: Rows[Sequence], wishes: Wishes
    ) -> torch.Tensor:  # [num_seqs, vocab]
        """Bias, penalties and banned ends; the same tensor if nobody asks for any."""
        if wishes.bias is None and wishes.bans is None and not wishes.penalised:
            return logits
        adjusted = logits.clone()
        if (bias := wishes.bias) is not None:
            adjusted.index_put_((bias.rows, bias.ids), bias.values, accumulate=True)
        if rows := wishes.penalised:
            self._tally.penalise(adjusted, rows, [seqs[row] for row in rows])
        if (bans := wishes.bans) is not None:
            lengths = torch.tensor([len(seq.output_ids) for seq in seqs], device=logits.device)
            early = lengths[bans.rows] + 1 < bans.values
            adjusted[bans.rows[early], bans.ids[early]] = -math.inf
        return adjusted


def _draw(logits: torch.Tensor, draws: Draws) -> torch.Tensor:  # [num_rows]
    """Top-k, then top-p of what that left, then min-p; then one draw per row of [num_rows, vocab].

    A row that asks for none of them is left alone by those that do.
    """
    probs = (logits / draws.temperatures).softmax(dim=-1)
    if draws.top_k is not None:
        probs = keep_largest(probs, draws.top_k, by_count=True)
    if draws.top_p is not None:
        masses = torch.where(draws.top_p < 1, draws.top_p * probs.sum(-1, keepdim=True), math.inf)
        probs = keep_largest(probs, masses, by_count=False)
    if draws.min_p is not None:
        probs = probs * (probs >= draws.min_p * probs.amax(dim=-1, keepdim=True))
    lengths = torch.tensor([len(seq.output_ids) for seq in draws.seqs], device=logits.device)
    return draw_at(probs, uniforms(draws.seeds, lengths))


def _describe(
    logits: torch.Tensor, tokens: Rows[int], seqs: Rows[Sequence], rows: Rows[int]
) -> list[Drawn]:
    drawn = [Drawn(token) for token in tokens]
    if not rows:
        return drawn
    width = max(seqs[row].params.logprobs or 0 for row in rows)
    asked = torch.tensor(rows, device=logits.device)
    own_ids = torch.tensor([tokens[row] for row in rows], device=logits.device)
    own, ranked = rank_tokens(logits[asked], own_ids, width)
    for row, value, top in zip(rows, own, ranked, strict=True):
        drawn[row] = Drawn(drawn[row].token_id, value, tuple(top[: seqs[row].params.logprobs]))
    return drawn
