"""Steps of decodes alone, recorded once and replayed: one launch instead of hundreds.

Knows batches and which recording serves how many tokens; does not know layers, sequences or when
there is time to record. Steps run without recordings until there are some, so none is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stoker_runtime.engine.paged import Batch, Pages

Record = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]
"""Records what a function computes: how to compute it again, and where the result will be then."""
_MOST_TOKENS = 256
"""More are computed so long that launches cost nothing beside them."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """A step of so many decodes, on tensors that stay where they are."""

    sent: torch.Tensor  # see `Batch.sent`
    out: torch.Tensor  # [num_tokens, hidden]
    replay: Callable[[], None]


class Graphs:
    """Recordings for 1, 2, 4, … decodes; a step takes the next larger one, and fills it up."""

    def __init__(
        self, pages: Pages, compute: Callable[[Batch], torch.Tensor], max_num_seqs: int
    ) -> None:
        """`compute` is recorded: a whole step, from a batch to [num_tokens, hidden]."""
        self._pages = pages
        self._compute = compute
        self._recordings: dict[int, _Recording] = {}
        most = min(max_num_seqs, _MOST_TOKENS)
        self._missing = [1 << n for n in range((most - 1).bit_length() + 1)]

    @property
    def are_missing(self) -> bool:
        """There is something left to record."""
        return bool(self._missing)

    def record(self, record: Record) -> None:
        """Record one more size, largest first: what it needs of memory is shared by the others."""
        size = self._missing.pop()
        sent = self._pages.lay_out((), size).sent.clone()
        batch = self._pages.view(sent, size)
        replay, out = record(lambda: self._compute(batch))
        self._recordings[size] = _Recording(sent, out, replay)

    def find(self, num_tokens: int) -> int:
        """The size of the recording that serves so many decodes; 0 if there is none."""
        return min((size for size in self._recordings if size >= num_tokens), default=0)

    def run(self, batch: Batch, size: int) -> torch.Tensor:  # [size, hidden]
        """Compute a batch that was filled up to `size`; valid until the next one is."""
        recording = self._recordings[size]
        recording.sent.copy_(batch.sent[: len(recording.sent)])
        recording.replay()
        return recording.out


class CudaRecord:
    """Records CUDA graphs that share one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, compute: Callable[[], torch.Tensor]
    ) -> tuple[Callable[[], None], torch.Tensor]:
        """Once without recording first, which loads kernels and makes libraries ready."""
        compute()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = compute()
        return graph.replay, out
