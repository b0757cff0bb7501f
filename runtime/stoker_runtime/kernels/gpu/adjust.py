"""Bias, penalties and least lengths of all rows at once, on the device where the scores are.

Knows scores, and marks that stay on the device from step to step; does not know sequences or who
has which marks (`engine/ledger` does). What was drawn is counted there too, so that the host need
not know a token before the next one is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.gpu.launch import launch
from stoker_runtime.kernels.gpu.registry import Arch, Kernel, Specialisation

IN_PROMPT, IS_END, SAID = 1, 2, 4
"""What a mark is the sum of; `SAID` as often as the token was said."""
_ADJUST = Kernel(
    module="adjust",
    function="adjust_kernel",
    signature="logits_ptr *fp32, slots_ptr *i32, marks_ptr *i32, bias_ptr *fp32, "
    "repetitions_ptr *fp32, frequencies_ptr *fp32, presences_ptr *fp32, leasts_ptr *i64, "
    "lengths_ptr *i64, out_ptr *fp32, vocab i32",
)
_COUNT = Kernel(
    module="adjust",
    function="count_kernel",
    signature="marks_ptr *i32, slots_ptr *i32, tokens_ptr *i64, vocab i32",
)
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of the tokens of some sequences, a row each."""

    tokens: torch.Tensor  # [num_slots, vocab] int32
    bias: torch.Tensor | None  # [num_slots, vocab] float32; None: nobody has any


@dataclass(frozen=True, slots=True)
class Terms:
    """What each row of a batch asks; nothing is 1, 0, 0 and 0."""

    slots: torch.Tensor  # [num_rows] int32, of `Marks`; -1: the row asks nothing
    repetitions: torch.Tensor  # [num_rows] float32
    frequencies: torch.Tensor  # [num_rows] float32
    presences: torch.Tensor  # [num_rows] float32
    leasts: torch.Tensor  # [num_rows] int64, tokens before an end


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """With and without bias; and the count."""
    yield _specialise(has_bias=False)
    yield _specialise(has_bias=True)
    yield _specialise_count()


def adjust(
    logits: torch.Tensor, marks: Marks, terms: Terms, lengths: torch.Tensor
) -> torch.Tensor:  # as logits: [num_rows, vocab] float32
    """The scores to draw from; lengths: of the answers so far, [num_rows] int64."""
    num_rows, vocab = logits.shape
    out = torch.empty(num_rows, vocab, dtype=torch.float32, device=logits.device)
    bias = logits if marks.bias is None else marks.bias
    wishes = (terms.repetitions, terms.frequencies, terms.presences, terms.leasts)
    tensors = (logits.contiguous(), terms.slots, marks.tokens, bias, *wishes, lengths, out)
    grid = (num_rows, -(-vocab // _BLOCK), 1)
    launch(_specialise(has_bias=marks.bias is not None), grid, *tensors, vocab)
    return out


def count(marks: Marks, slots: torch.Tensor, tokens: torch.Tensor) -> None:
    """Add one token of each row, [num_rows] int64 and not negative, to the marks of its slot."""
    launch(_specialise_count(), (len(slots), 1, 1), marks.tokens, slots, tokens, _vocab(marks))


def _vocab(marks: Marks) -> int:
    return marks.tokens.shape[1]


def _specialise(*, has_bias: bool) -> Specialisation:
    return _ADJUST.specialise({}, {"HAS_BIAS": has_bias, "BLOCK": _BLOCK}, num_warps=4)


def _specialise_count() -> Specialisation:
    return _COUNT.specialise({}, {}, num_warps=1)
