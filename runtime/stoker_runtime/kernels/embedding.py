"""Rows of an embedding by token, out of whatever its weight lies in.

Knows rows and panels of 16 rows; does not know checkpoints. Built by `model/weights`: an embedding
that is the head too is kept once, in panels for the head's product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

from stoker_runtime.kernels.panels import PANEL


class Embedding(Protocol):
    """Token ids in, their rows out."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows that come out."""
        ...

    @property
    def held(self) -> torch.Tensor:
        """The tensor that it looks rows up in."""
        ...

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Rows of [num_tokens] int64."""
        ...


@dataclass(frozen=True, slots=True)
class DenseEmbedding:
    """Row after row, in the dtype it is stored in."""

    held: torch.Tensor  # [vocab, hidden]
    dtype: torch.dtype

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Look up."""
        return F.embedding(token_ids, self.held).to(self.dtype)


@dataclass(frozen=True, slots=True)
class PanelEmbedding:
    """Out of panels: token 35 is every third of 16 units in panel 2."""

    held: torch.Tensor  # [panels, units, 16] int32
    stored: torch.dtype
    """What the units hold."""
    dtype: torch.dtype

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Look up."""
        units = self.held[token_ids // PANEL, :, token_ids % PANEL]  # [num_tokens, units]
        return units.contiguous().view(self.stored).to(self.dtype)
