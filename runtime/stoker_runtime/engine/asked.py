"""What sequences ask of the kernel that draws their tokens where the scores are.

Knows sampling fields and what the kernel takes; does not know scores, penalties or bias. Used by
the sampler on a GPU, in place of its own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from stoker_runtime.engine.transfer import send
from stoker_runtime.engine.wishes import GREEDY_BELOW, signed
from stoker_runtime.kernels.gpu.sampling import Asked
from stoker_runtime.schedule.sequence import Sequence


def build_asked(seqs: Rows[Sequence], device: torch.device) -> Asked:
    """A row each; what differs from step to step is not in it."""
    params = [seq.params for seq in seqs]
    warm = [p.temperature if p.temperature > GREEDY_BELOW else 0.0 for p in params]
    return Asked(
        seeds=send([signed(seq.seed) for seq in seqs], torch.int64, device),
        temperatures=send(warm, torch.float32, device),
        top_ks=send([p.top_k for p in params], torch.int32, device),
        top_ps=send([p.top_p for p in params], torch.float32, device),
        min_ps=send([p.min_p for p in params], torch.float32, device),
    )
