"""Log probabilities of chosen tokens and of the most likely ones.

Knows scores as the model gave them, before penalties, bias and temperature; does not know how
tokens are chosen. Used by the sampler for answers and by the engine for prompts.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from stoker_runtime.engine.runner import Runner
from stoker_runtime.engine.spans import spans
from stoker_runtime.engine.transfer import send
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Step
from stoker_runtime.wire import TokenLogprob

_ROWS_AT_ONCE = 64

Ranked = list[tuple[int, float]]
"""Token ids with their natural-log probabilities, likeliest first."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Of each row its token's own log probability, and the likeliest tokens with theirs."""

    own: torch.Tensor  # [num_rows]
    ids: torch.Tensor  # [num_rows, width]
    values: torch.Tensor  # [num_rows, width]

    def read(self) -> tuple[list[float], list[Ranked]]:
        """As numbers; the tensors must be on the processor."""
        own: list[float] = self.own.tolist()
        ranked = zip(self.ids.tolist(), self.values.tolist(), strict=True)
        return own, [list(zip(*row, strict=True)) for row in ranked]


def rank_tokens(logits: torch.Tensor, tokens: torch.Tensor, width: int) -> Ranking:
    """Of each row of [num_rows, vocab]: its token's own log probability and the likeliest ones'.

    log p(t) = score(t) - logsumexp(scores), so no second table of the vocabulary's size is made.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    own = (logits.gather(1, tokens[:, None]) - total)[:, 0]
    values, ids = logits.topk(min(width, logits.shape[-1]), dim=-1)
    return Ranking(own, ids, values - total)


@dataclass(frozen=True, slots=True)
class PromptPart:
    """Some tokens of a prompt that are to be scored, at most 64."""

    seq: Sequence
    rows: slice
    """Of the step, whose scores say how likely these tokens are."""
    ids: tuple[int, ...]
    targets: torch.Tensor  # [num_rows] int64: the ids, where the scores will be

    @property
    def width(self) -> int:
        """Alternatives that are asked for."""
        return self.seq.params.prompt_logprobs or 0


class PromptScores:
    """Log probabilities of prompts that ask for them, gathered step by step.

    Scores of 64 tokens exist at once: a prompt of 32768 tokens over a vocabulary of 128k would need
    16 GiB for all of its own.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._gathered: dict[str, list[list[TokenLogprob]]] = {}

    def __len__(self) -> int:
        return len(self._gathered)

    def plan(self, step: Step) -> list[PromptPart]:
        """What is new of the step's prompts.

        Row `r` of a chunk scores the token at `chunk.start + r + 1`; of a prompt computed again,
        what was scored before is passed over.
        """
        parts = []
        for chunk, seq, (first, _) in zip(step.chunks, step.seqs, spans(step.chunks), strict=True):
            if seq.params.prompt_logprobs is None or seq.output_ids:
                continue
            last = min(chunk.end, len(seq.prompt_ids) - 1)
            begin = max(chunk.start, len(self._gathered.get(seq.id, ())))
            for start in range(begin, last, _ROWS_AT_ONCE):
                end = min(start + _ROWS_AT_ONCE, last)
                rows = slice(first + start - chunk.start, first + end - chunk.start)
                ids = seq.prompt_ids[start + 1 : end + 1]
                targets = send(ids, torch.int64, self._runner.device)
                parts.append(PromptPart(seq, rows, ids, targets))
        return parts

    def rank(self, parts: Rows[PromptPart], hidden: torch.Tensor) -> list[Ranking]:
        """Score the parts; hidden: [num_tokens, hidden] of the whole step."""
        return [
            rank_tokens(self._runner.score(hidden[part.rows]), part.targets, part.width)
            for part in parts
        ]

    def note(self, part: PromptPart, ranking: Ranking) -> None:
        """Keep what was found, in the order of the prompt."""
        done = self._gathered.setdefault(part.seq.id, [])
        for id, value, top in zip(part.ids, *ranking.read(), strict=True):
            done.append([TokenLogprob(*pair) for pair in ((id, value), *top)])

    def take(self, seq_id: str) -> list[list[TokenLogprob]]:
        """Per prompt token but the first: its own, then the likeliest; handed out once."""
        return self._gathered.pop(seq_id, [])
