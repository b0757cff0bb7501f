"""Which tokens sequences have in their prompts, said, or may not say yet, where the scores are.

Knows sampling fields and marks on a device; does not know scores or the schedule. Used by the
sampler where `kernels/gpu` draws, for the sequences that ask for bias, penalties or a least length.
What is drawn is counted by a kernel: the host need not know it before the next draw.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from stoker_runtime.engine.tally import has_penalty
from stoker_runtime.engine.transfer import send
from stoker_runtime.kernels.gpu.adjust import IN_PROMPT, IS_END, SAID, Marks, Terms, adjust, count
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence

_FIRST_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What one batch asks."""

    ledger: Ledger
    terms: Terms

    def adjust(
        self, logits: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:  # [num_rows, vocab]
        """Scores to draw from; lengths: of the answers before the draw, [num_rows] int64."""
        return adjust(logits, self.ledger.marks, self.terms, lengths)

    def count(self, tokens: torch.Tensor) -> None:
        """Remember what was drawn, [num_rows] int64; what is negative was not."""
        count(self.ledger.marks, self.terms.slots, tokens)


class Ledger:
    """The marks of all sequences that asked for something and have not ended."""

    def __init__(self, device: torch.device, vocab: int) -> None:
        self._device = device
        self._vocab = vocab
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self.marks = Marks(torch.zeros(0, vocab, dtype=torch.int32, device=device), None)

    def __len__(self) -> int:
        return len(self._slots)

    def enter(self, seqs: Rows[Sequence]) -> Adjustment | None:
        """What a batch asks, one row a sequence; None if nobody does. Newcomers get a slot."""
        if not any(asks(seq.params) for seq in seqs):
            return None
        for seq in seqs:
            if asks(seq.params) and seq.id not in self._slots:
                self._enter(seq)
        params = [seq.params for seq in seqs]
        slots = [self._slots.get(seq.id, -1) for seq in seqs]
        terms = Terms(
            slots=send(slots, torch.int32, self._device),
            repetitions=self._send([p.repetition_penalty for p in params]),
            frequencies=self._send([p.frequency_penalty for p in params]),
            presences=self._send([p.presence_penalty for p in params]),
            leasts=send([p.min_tokens for p in params], torch.int64, self._device),
        )
        return Adjustment(self, terms)

    def forget(self, seq_id: str) -> None:
        """A sequence has ended."""
        if (slot := self._slots.pop(seq_id, None)) is not None:
            self._free.append(slot)

    def clear(self) -> None:
        """What was counted is not certain: all enter anew, with what they have said."""
        self._free += self._slots.values()
        self._slots.clear()

    def _enter(self, seq: Sequence) -> None:
        if not self._free:
            self._grow()
        slot = self._slots[seq.id] = self._free.pop()
        marks = dict.fromkeys(seq.prompt_ids, IN_PROMPT)
        for token in seq.output_ids:
            marks[token] = marks.get(token, 0) + SAID
        for token in seq.stop_ids:
            if token < self._vocab:
                marks[token] = marks.get(token, 0) + IS_END
        self._write(self.marks.tokens[slot], marks)
        bias = seq.params.logit_bias
        if bias and self.marks.bias is None:
            self.marks = Marks(self.marks.tokens, torch.zeros_like(self.marks.tokens).float())
        if self.marks.bias is not None:
            self._write(self.marks.bias[slot], bias)

    def _write(self, row: torch.Tensor, values: dict[int, int] | dict[int, float]) -> None:
        """Make a row [vocab] zero but for these."""
        row.zero_()
        if values:
            ids = send(list(values), torch.int64, self._device)
            row.index_copy_(0, ids, send(list(values.values()), row.dtype, self._device))

    def _grow(self) -> None:
        """Twice as many slots; those there are keep theirs."""
        num_slots = len(self.marks.tokens)
        self._free = list(range(num_slots, 2 * num_slots or _FIRST_SLOTS))
        more = self.marks.tokens.new_zeros(len(self._free), self._vocab)
        bias = self.marks.bias
        self.marks = Marks(
            torch.cat((self.marks.tokens, more)),
            None if bias is None else torch.cat((bias, more.float())),
        )

    def _send(self, values: Rows[float]) -> torch.Tensor:
        return send(values, torch.float32, self._device)


def asks(params: SamplingParams) -> bool:
    """Something is to be done to the scores."""
    return has_penalty(params) or bool(params.logit_bias) or params.min_tokens > 0
