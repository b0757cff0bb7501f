"""Draws the next token of every sequence of a step at once.

Knows logits and sampling fields; does not know the schedule or the model. Random numbers come from
the sequence's own seed and the number of its tokens: what else is in the batch makes no difference.
Sequences are read before the scores are there, which may be while the step before is computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stoker_runtime.engine.chance import uniforms
from stoker_runtime.engine.logprobs import Ranking, rank_tokens
from stoker_runtime.engine.tally import Penalties, Tally
from stoker_runtime.engine.transfer import send
from stoker_runtime.engine.truncation import draw_at, find_largest, keep_largest
from stoker_runtime.engine.wishes import Draws, Wishes, build_wishes, find_scored
from stoker_runtime.schedule.sequence import Sequence

if TYPE_CHECKING:
    from stoker_runtime.engine.ledger import Adjustment, Ledger
    from stoker_runtime.kernels.gpu.sampling import Asked

LOST = -1
"""Instead of a token: the row's scores are no numbers."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token and, when asked for, its log probability and the most likely alternatives'."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """One step's draw, ready to be made as soon as there are scores."""

    seqs: tuple[Sequence, ...]
    wishes: Wishes
    lengths: torch.Tensor  # [num_rows] int64, of the answers before the draw
    scored: torch.Tensor | None  # [num_scored] int64: rows that want log probabilities
    penalties: Penalties | None
    asked: Asked | None
    """Of the kernel, where that draws."""
    adjustment: Adjustment | None
    """Of the scores that it draws from; None, too, if nobody asks for any."""

    def make(
        self, logits: torch.Tensor, newest: torch.Tensor
    ) -> tuple[torch.Tensor, Ranking | None]:  # [num_rows] int64
        """A token for each row of [num_rows, vocab], or `LOST`, and the ranking of those scored.

        newest: [num_rows], the tokens that rows were fed. Log probabilities are the model's,
        unadjusted. Nothing is read back, so that a device need not be waited for; only torch's way
        of drawing looks whether scores are numbers.
        """
        tokens = self._draw(logits, newest)
        if self.scored is None:
            return tokens, None
        width = max(self.seqs[row].params.logprobs or 0 for row in self.wishes.logprobs)
        return tokens, rank_tokens(logits[self.scored], tokens[self.scored].clamp(min=0), width)

    def read(self, tokens: torch.Tensor, ranking: Ranking | None) -> list[Drawn | None]:
        """What `make` returned, once it is on the processor; None for what is `LOST`."""
        drawn = [None if token == LOST else Drawn(token) for token in tokens.tolist()]
        if ranking is not None:
            for row, value, top in zip(self.wishes.logprobs, *ranking.read(), strict=True):
                if (one := drawn[row]) is not None:
                    wanted = tuple(top[: self.seqs[row].params.logprobs])
                    drawn[row] = Drawn(one.token_id, value, wanted)
        return drawn

    def _draw(self, logits: torch.Tensor, newest: torch.Tensor) -> torch.Tensor:
        if self.asked is not None:
            from stoker_runtime.kernels.gpu.sampling import draw  # not before: see `Sampler`

            if self.adjustment is None:
                return draw(logits, self.lengths, self.asked)
            adjusted = self.adjustment.adjust(logits, self.lengths)
            tokens = draw(adjusted, self.lengths, self.asked)
            self.adjustment.count(tokens)
            return tokens
        finite = logits.amax(dim=-1).isfinite()
        if finite.all():
            return self._draw_finite(logits, newest)
        tokens = self._draw_finite(logits.masked_fill(~finite[:, None], 0.0), newest)
        return tokens.masked_fill(~finite, LOST)

    def _draw_finite(self, logits: torch.Tensor, newest: torch.Tensor) -> torch.Tensor:
        adjusted = self._adjust(logits, newest)
        if sum(len(draws.rows) for draws in self.wishes.draws) == len(logits):
            tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
        else:
            tokens = find_largest(adjusted)
        for draws in self.wishes.draws:
            tokens[draws.rows] = _draw(adjusted[draws.rows], draws, self.lengths[draws.rows])
        return tokens

    def _adjust(
        self, logits: torch.Tensor, newest: torch.Tensor
    ) -> torch.Tensor:  # [num_rows, vocab]
        """Bias, penalties and banned ends; the same tensor if nobody asks for any."""
        bias, bans = self.wishes.bias, self.wishes.bans
        if bias is None and bans is None and self.penalties is None:
            return logits
        adjusted = logits.clone()
        if bias is not None:
            adjusted.index_put_((bias.rows, bias.ids), bias.values, accumulate=True)
        if self.penalties is not None:
            self.penalties.apply(adjusted, newest)
        if bans is not None:
            is_early = self.lengths[bans.rows] + 1 < bans.values
            scores = adjusted[bans.rows, bans.ids]
            adjusted[bans.rows, bans.ids] = scores.masked_fill(is_early, -math.inf)
        return adjusted


class Sampler:
    """Prepares draws, and remembers what the batch asks for and what its sequences said."""

    def __init__(self, device: torch.device, vocab: int, *, by_kernel: bool = False) -> None:
        """With `by_kernel`, `kernels/gpu` draws, where the scores are."""
        self._device = device
        self._vocab = vocab
        self._by_kernel = by_kernel
        self._tally = Tally()
        self._seqs: list[Sequence] = []
        """Of the last draw, while none of them has ended."""
        self._wishes = Wishes()
        self._asked: Asked | None = None
        self._adjustment: Adjustment | None = None

    def prepare(self, seqs: Rows[Sequence]) -> Draw:
        """The next draw of these sequences, one row each."""
        wishes = self._read(seqs)
        rows, device = wishes.penalised, self._device
        penalised = [seqs[row] for row in rows]
        return Draw(
            seqs=tuple(seqs),
            wishes=wishes,
            lengths=send([seq.num_made_tokens for seq in seqs], torch.int64, device),
            scored=send(wishes.logprobs, torch.int64, device) if wishes.logprobs else None,
            penalties=self._tally.count(rows, penalised, device) if rows else None,
            asked=self._asked,
            adjustment=self._adjustment,
        )

    def forget(self, seq_id: str) -> None:
        """A sequence has ended."""
        if self._by_kernel:
            self._ledger.forget(seq_id)
        self._tally.forget(seq_id)
        self._seqs = []

    def retract(self) -> None:
        """What was drawn last does not count."""
        if self._by_kernel:
            self._ledger.clear()
        self._seqs = []

    @property
    def num_remembered(self) -> int:
        """Sequences whose tokens are counted."""
        return len(self._ledger if self._by_kernel else self._tally)

    def _read(self, seqs: Rows[Sequence]) -> Wishes:
        """The wishes of the last step, if the batch is the same."""
        known = self._seqs
        if len(known) != len(seqs) or any(a is not b for a, b in zip(known, seqs, strict=True)):
            self._seqs = list(seqs)
            if self._by_kernel:
                self._wishes = self._ask(seqs)
            else:
                self._wishes = build_wishes(seqs, self._vocab, self._device)
        return self._wishes

    def _ask(self, seqs: Rows[Sequence]) -> Wishes:
        """Have the kernels do it; what is left of the wishes."""
        from stoker_runtime.engine.asked import build_asked  # not before: a CPU needs none of it

        self._asked = build_asked(seqs, self._device)
        self._adjustment = self._ledger.enter(seqs)
        return Wishes(logprobs=find_scored(seqs))

    @functools.cached_property
    def _ledger(self) -> Ledger:
        from stoker_runtime.engine.ledger import Ledger  # see `_ask`

        return Ledger(self._device, self._vocab)


def _draw(logits: torch.Tensor, draws: Draws, lengths: torch.Tensor) -> torch.Tensor:  # [num_rows]
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
    return draw_at(probs, uniforms(draws.seeds, lengths))
