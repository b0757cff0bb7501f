"""What a decoder does between its products, as one interface with an implementation per device.

Knows signatures and who implements them; does not know layers or what calls them when. Torch's
implementation is the module `reference`, which every other one must agree with. A decoder is given
one of them for its whole life; a step's plan brings the attention that fits its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from stoker_runtime.kernels import reference
from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.linear import Linear
from stoker_runtime.kernels.reference import Angles, Heads, RmsNorm, Scoring

Gate = Callable[[torch.Tensor], torch.Tensor]
"""[num_tokens, 2 · inter] → [num_tokens, inter]."""
Mixture = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Tokens [num_tokens, hidden], weights and chosen experts of each [num_tokens, num_chosen] → the
sum of what each token's experts make of it."""


class Ops(Protocol):
    """Everything that is done to hidden states besides multiplying and attending."""

    takes_pages: bool
    """Works with plans of `engine/paged`, whose slots are int32; else with any other plan."""

    def add_and_normalise(
        self, x: torch.Tensor, added: torch.Tensor, added_norm: RmsNorm | None, norm: RmsNorm
    ) -> torch.Tensor:  # as x: [num_tokens, hidden]
        """Add to x, in place, what a part of the layer made of it, then normalise the sum.

        added_norm: of `added`, before it is added (Gemma).
        """
        ...

    def turn_and_store(
        self,
        qkv: torch.Tensor,
        heads: Heads,
        angles: Angles | None,
        cache: KvCache,
        slots: torch.Tensor,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim] in the dtype of qkv
        """Normalise and turn queries and keys, put keys and values into the cache: the queries.

        qkv: [num_tokens, (num_heads + 2 · num_kv_heads) · head_dim]; angles: None where nothing is
        turned; cache: one layer's; slots: [num_tokens] int64, block · block_size + offset.
        """
        ...

    def silu_and_multiply(self, gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
        """silu(gate) · up, of [num_tokens, 2 · inter]."""
        ...

    def gelu_and_multiply(self, gate_up: torch.Tensor) -> torch.Tensor:  # [num_tokens, inter]
        """gelu(gate) · up with gelu's tanh approximation, of [num_tokens, 2 · inter]."""
        ...

    def group_experts(
        self, gate_ups: Sequence[Linear], downs: Sequence[Linear], gate: Gate
    ) -> Mixture | None:
        """All experts of a layer at once; None if each is to be called for itself."""
        ...


class AttentionPlan(Protocol):
    """Who attends to what in one step; made once, used by every layer."""

    @property
    def slots(self) -> torch.Tensor:
        """Where each token's key and value go: [num_tokens] int64."""
        ...

    def attend(
        self, q: torch.Tensor, cache: KvCache, scoring: Scoring
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim] in the dtype of q
        """Each token's attention to its sequence's tokens up to itself, which are in the cache.

        q: [num_tokens, num_heads, head_dim]; cache: one layer's.
        """
        ...


def pick_ops(device: torch.device, *, fits_kernels: bool = False) -> Ops:
    """The fastest implementation for a device; `fits_kernels`: see `engine/paged`."""
    if device.type == "cuda" and fits_kernels:
        from stoker_runtime.kernels.gpu import ops  # not before: a CPU needs none of it

        return ops
    return reference
