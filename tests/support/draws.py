"""One draw, from scores to tokens, as the engine's pipeline makes it."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from stoker_runtime.engine.sampler import Drawn, Sampler
from stoker_runtime.schedule.sequence import Sequence


def draw(
    logits: torch.Tensor,  # [num_seqs, vocab]
    seqs: Rows[Sequence],
    sampler: Sampler | None = None,
    *,
    by_kernel: bool = False,
) -> list[Drawn | None]:
    """By a sampler that remembers nothing, unless one is given; every token before is known."""
    sampler = sampler or Sampler(logits.device, logits.shape[-1], by_kernel=by_kernel)
    prepared = sampler.prepare(seqs)
    newest = torch.tensor([seq.slice_tokens(seq.num_tokens - 1, seq.num_tokens)[0] for seq in seqs])
    with torch.inference_mode():
        return prepared.read(*prepared.make(logits, newest))
