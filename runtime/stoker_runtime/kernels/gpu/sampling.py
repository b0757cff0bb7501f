"""Draws the next token of every row at once, on the device where the scores are.

Knows scores and what each row asks; does not know sequences, penalties or who asks. Used by the
engine's sampler. Nothing of the vocabulary's size is written, and only the tokens are sent back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.gpu.launch import launch
from stoker_runtime.kernels.gpu.registry import Arch, Kernel, Specialisation

_DRAW = Kernel(
    module="sampling",
    function="draw_kernel",
    signature="logits_ptr *fp32, seeds_ptr *i64, lengths_ptr *i64, temperatures_ptr *fp32, "
    "top_ks_ptr *i32, top_ps_ptr *fp32, min_ps_ptr *fp32, out_ptr *i64, vocab i32",
)
_BLOCK = 1024
_NUM_WARPS = 8
LOST = -1
"""Instead of a token: the row's scores are no numbers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What each row asks; a row with temperature 0 gets its likeliest token."""

    seeds: torch.Tensor  # [num_rows] int64
    temperatures: torch.Tensor  # [num_rows] float32
    top_ks: torch.Tensor  # [num_rows] int32, 0: all
    top_ps: torch.Tensor  # [num_rows] float32, 1: all
    min_ps: torch.Tensor  # [num_rows] float32, 0: all


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """One for all."""
    yield _specialise()


def draw(
    logits: torch.Tensor, lengths: torch.Tensor, asked: Asked
) -> torch.Tensor:  # [num_rows] int64
    """A token for each row of [num_rows, vocab] float32, or `LOST`.

    lengths: [num_rows] int64, of the answers so far: the number of the draw.

    Of the tokens that top-k keeps, top-p keeps the likeliest that have its share of their
    probability, and min-p those that are likely enough beside the likeliest; one of them is drawn.
    """
    num_rows, vocab = logits.shape
    out = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    tensors = (asked.seeds, lengths, asked.temperatures, asked.top_ks, asked.top_ps)
    grid = (num_rows, 1, 1)
    launch(_specialise(), grid, logits.contiguous(), *tensors, asked.min_ps, out, vocab)
    return out


def _specialise() -> Specialisation:
    return _DRAW.specialise({}, {"BLOCK": _BLOCK}, _NUM_WARPS)
