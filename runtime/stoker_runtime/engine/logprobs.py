"""Log probabilities of chosen tokens and of the most likely ones.

Knows scores as the model gave them, before penalties, bias and temperature; does not know how
tokens are chosen. Used by the sampler for answers and by the engine for prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch

from stoker_runtime.engine.runner import Runner, spans
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import TokenLogprob

_ROWS_AT_ONCE = 64

Ranked = list[tuple[int, float]]
"""Token ids with their natural-log probabilities, likeliest first."""


def rank_tokens(
    logits: torch.Tensor, tokens: torch.Tensor, width: int
) -> tuple[list[float], list[Ranked]]:
    """Of each row of [num_rows, vocab]: its token's own log probability and the likeliest ones'.

    log p(t) = score(t) - logsumexp(scores), so no second table of the vocabulary's size is made.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    own: list[float] = (logits.gather(1, tokens[:, None]) - total)[:, 0].tolist()
    values, ids = logits.topk(min(width, logits.shape[-1]), dim=-1)
    ranked = zip(ids.tolist(), (values - total).tolist(), strict=True)
    return own, [list(zip(*row, strict=True)) for row in ranked]


class PromptScores:
    """Log probabilities of prompts that ask for them, gathered chunk by chunk.

    Scores of 64 tokens exist at once: a prompt of 32768 tokens over a vocabulary of 128k would need
    16 GiB for all of its own.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._gathered: dict[str, list[list[TokenLogprob]]] = {}

    def __len__(self) -> int:
        return len(self._gathered)

    def add(
        self,
        chunks: Rows[Chunk],
        hidden: torch.Tensor,
        find: Callable[[str], Sequence | None],
    ) -> None:
        """Score what is new of the step's prompts; hidden: [num_tokens, hidden] of all chunks."""
        for chunk, (first, _) in zip(chunks, spans(chunks), strict=True):
            seq = find(chunk.seq_id)
            if seq is not None and seq.params.prompt_logprobs is not None and not seq.output_ids:
                self._add_chunk(seq, chunk, hidden[first : first + len(chunk.token_ids)])

    def take(self, seq_id: str) -> list[list[TokenLogprob]]:
        """Per prompt token but the first: its own, then the likeliest; handed out once."""
        return self._gathered.pop(seq_id, [])

    def _add_chunk(self, seq: Sequence, chunk: Chunk, hidden: torch.Tensor) -> None:
        """Row `r` scores the token at `chunk.start + r + 1`; of a prompt computed again, what was
        scored before is passed over."""
        done = self._gathered.setdefault(seq.id, [])
        width = seq.params.prompt_logprobs or 0
        last = min(chunk.end, len(seq.prompt_ids) - 1)
        for start in range(max(chunk.start, len(done)), last, _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE, last)
            logits = self._runner.score(hidden[start - chunk.start : end - chunk.start])
            ids = seq.prompt_ids[start + 1 : end + 1]
            own, ranked = rank_tokens(logits, torch.tensor(ids, device=logits.device), width)
            for id, value, top in zip(ids, own, ranked, strict=True):
                done.append([TokenLogprob(*pair) for pair in ((id, value), *top)])
