"""Draws tokens of sequences by the kernel, where the scores are.

Knows sampling fields and what the kernel takes; does not know scores, penalties or bias. Used by
the sampler on a GPU, in place of its own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import replace

import torch

from stoker_runtime.engine.wishes import GREEDY_BELOW, signed
from stoker_runtime.kernels.gpu.sampling import LOST, Asked, draw
from stoker_runtime.schedule.sequence import Sequence


class KernelDraws:
    """What one batch asks, kept for all steps until the batch changes."""

    def __init__(self, seqs: Rows[Sequence], device: torch.device) -> None:
        params = [seq.params for seq in seqs]
        warm = [p.temperature if p.temperature > GREEDY_BELOW else 0.0 for p in params]
        self._seqs = seqs
        self._asked = Asked(
            seeds=_send([signed(seq.seed) for seq in seqs], torch.int64, device),
            lengths=torch.empty(0, dtype=torch.int64),
            temperatures=_send(warm, torch.float32, device),
            top_ks=_send([p.top_k for p in params], torch.int32, device),
            top_ps=_send([p.top_p for p in params], torch.float32, device),
            min_ps=_send([p.min_p for p in params], torch.float32, device),
        )

    def draw(self, logits: torch.Tensor) -> list[int | None]:
        """A token per row of [num_seqs, vocab]; None if its scores are no numbers.

        The only thing of a step that comes back from the device, and all of it at once.
        """
        lengths = [len(seq.output_ids) for seq in self._seqs]
        asked = replace(self._asked, lengths=_send(lengths, torch.int64, logits.device))
        return [None if token == LOST else token for token in draw(logits, asked).tolist()]


def _send(values: Rows[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    host = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
