"""Scores as their sequences want them before a token is drawn, and the count of what was drawn.

Knows one row of scores and the row of marks that belongs to it; does not know sequences. See the
host's `adjust`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def adjust_kernel(
    logits_ptr, slots_ptr, marks_ptr, bias_ptr, repetitions_ptr, frequencies_ptr, presences_ptr,
    leasts_ptr, lengths_ptr, out_ptr, vocab,
    HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bias, then the penalties, then no end before the least length; BLOCK scores a program.

    A mark is 4 · (times said) + 2 · (is an end) + (is in the prompt). Repetition divides positive
    scores and multiplies negative ones of all that prompt and answer have. Rows without a slot (-1)
    are copied.
    """
    row = tl.program_id(0).to(tl.int64)
    tokens = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_token = tokens < vocab
    scores = tl.load(logits_ptr + row * vocab + tokens, mask=is_token, other=0.0)
    slot = tl.load(slots_ptr + row).to(tl.int64)
    if slot >= 0:
        places = slot * vocab + tokens
        marks = tl.load(marks_ptr + places, mask=is_token, other=0)
        if HAS_BIAS:
            scores += tl.load(bias_ptr + places, mask=is_token, other=0.0)
        factor = tl.load(repetitions_ptr + row)
        said, is_end = (marks >> 2).to(tl.float32), (marks & 2) > 0
        repeated = tl.where(scores > 0, scores / factor, scores * factor)
        scores = tl.where((said > 0) | ((marks & 1) > 0), repeated, scores)
        presence = tl.load(presences_ptr + row)
        scores -= tl.load(frequencies_ptr + row) * said + tl.where(said > 0, presence, 0.0)
        is_early = tl.load(lengths_ptr + row) + 1 < tl.load(leasts_ptr + row)
        scores = tl.where(is_end & is_early, float("-inf"), scores)
    tl.store(out_ptr + row * vocab + tokens, scores, mask=is_token)


@triton.jit
def count_kernel(marks_ptr, slots_ptr, tokens_ptr, vocab):
    """Each row's token, if it has a slot and one was drawn, was said once more."""
    row = tl.program_id(0)
    slot, token = tl.load(slots_ptr + row).to(tl.int64), tl.load(tokens_ptr + row)
    if (slot >= 0) & (token >= 0):
        place = marks_ptr + slot * vocab + token
        tl.store(place, tl.load(place) + 4)
