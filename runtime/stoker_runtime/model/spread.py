"""Makes a decoder meet those of the other ranks (Shoeybi et al. 2019, Megatron-LM).

Knows which parts of a decoder are split in which way; does not know checkpoints or processes. Rows
of a product that are split need nobody (q, k, v, gate, up), columns that are split (out, down) make
parts of a sum. Called by `engine/assembly`; a model that is whole stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from stoker_runtime.kernels.embedding import Embedding
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.model.decoder import Decoder
from stoker_runtime.parallel.collective import add_up, gather, send_to_all
from stoker_runtime.parallel.share import Share


def spread(model: Decoder) -> Decoder:
    """The same decoder, its products of split columns summed and its scores gathered."""
    spec = model.spec
    return replace(
        model,
        embed=_SpreadEmbedding(model.embed, spec.tokens),
        layers=tuple(
            replace(layer, out=_Summed(layer.out), mlp=_Summed(layer.mlp)) for layer in model.layers
        ),
        head=_SpreadHead(model.head, spec.share, spec.vocab_size),
    )


@dataclass(frozen=True, slots=True)
class _Summed:
    """A part of the network that makes a summand in each rank."""

    part: Linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply every rank's to [num_tokens, in]."""
        return add_up(self.part(x))


@dataclass(frozen=True, slots=True)
class _SpreadEmbedding:
    """Each rank adds the rows of its tokens and zeros for all others."""

    rows: Embedding
    tokens: range

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows that come out."""
        return self.rows.dtype

    @property
    def held(self) -> torch.Tensor:
        """The tensor that this rank looks rows up in."""
        return self.rows.held

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:  # [num_tokens, hidden]
        """Rows of [num_tokens]."""
        places = token_ids - self.tokens.start
        is_here = (places >= 0) & (places < len(self.tokens))
        return add_up(self.rows(places * is_here) * is_here[:, None])


@dataclass(frozen=True, slots=True)
class _SpreadHead:
    """Each rank scores some tokens, for the rows of hidden states that the leader has."""

    head: Linear
    share: Share
    vocab_size: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_rows, vocab] for the leader
        """Apply it to [num_rows, hidden]; the others' x is overwritten."""
        return gather(self.head(send_to_all(x)), self.share, self.vocab_size)
