"""The next token of one sequence, drawn from its scores in a few passes over them.

Knows one row of scores and what is asked of it; does not know sequences. See the host's `sampling`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def draw_kernel(
    logits_ptr, seeds_ptr, lengths_ptr, temperatures_ptr, top_ks_ptr, top_ps_ptr, min_ps_ptr,
    out_ptr, vocab, BLOCK: tl.constexpr,
):  # fmt: skip
    """The likeliest token if the temperature is 0; else a random one of those that are kept.

    With weights w = exp((score - highest) / temperature), the token with the highest log(w) + g is
    drawn, g = -log(-log(u)) being Gumbel's noise and u a function of seed, length and token: that
    draws each with its probability without summing any. -1 if a score is not a number or none is
    finite.
    """
    row = tl.program_id(0).to(tl.int64)
    start = logits_ptr + row * vocab
    highest, best, num_lost = _find_highest(start, vocab, BLOCK)
    is_lost = (num_lost > 0) | (tl.abs(highest) == float("inf"))
    token = best
    temperature = tl.load(temperatures_ptr + row)
    if (temperature > 0.0) & (is_lost == 0):
        least = tl.load(min_ps_ptr + row).to(tl.int32, bitcast=True)
        top_k, top_p = tl.load(top_ks_ptr + row), tl.load(top_ps_ptr + row)
        kept = 0
        if top_k > 0:
            kept = _find_least(start, vocab, highest, temperature, 0, top_k * 1.0, True, BLOCK)
        if top_p < 1.0:
            mass = tl.sum(_sum_above(start, vocab, highest, temperature, kept, 0, 31, False, BLOCK))
            mass *= top_p / 16  # all 16 sums are the same: j << 31 is 0
            kept = _find_least(start, vocab, highest, temperature, kept, mass, False, BLOCK)
        least = tl.maximum(least, kept)
        key = _mix(_mix(tl.load(seeds_ptr + row).to(tl.uint64, bitcast=True))
                   ^ tl.load(lengths_ptr + row).to(tl.uint64))  # fmt: skip
        token = _draw(start, vocab, highest, temperature, least, key, BLOCK)
    tl.store(out_ptr + row, tl.where(is_lost, -1, token).to(tl.int64))


@triton.jit
def _find_highest(start, vocab, BLOCK: tl.constexpr):
    """The highest score, the first token that has it, and how many scores are not numbers."""
    highest, best, num_lost = float("-inf"), 0, 0
    for first in range(0, vocab, BLOCK):
        tokens = first + tl.arange(0, BLOCK)
        scores = tl.load(start + tokens, mask=tokens < vocab, other=float("-inf"))
        num_lost += tl.sum((scores != scores).to(tl.int32), axis=0)
        most = tl.max(scores, axis=0)
        if most > highest:
            best = first + tl.argmax(scores, axis=0)
            highest = most
    return highest, best, num_lost


@triton.jit
def _find_least(
    start, vocab, highest, temperature, least, amount, BY_COUNT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """The least weight, as bits, of the fewest, largest that together reach the amount.

    Weights from 0 to 1 are in the order of their bits, of which there are 30. Four at a time are
    found, from above: for each of 16 digits, what reaches it and more is summed. The lowest two
    are left 0: weights that differ in nothing else stay or go together. 0 if all do not reach it.
    """
    found = 0
    for step in tl.static_range(7):
        sums = _sum_above(
            start, vocab, highest, temperature, least, found, 26 - 4 * step, BY_COUNT, BLOCK
        )
        digit = tl.sum((sums >= amount).to(tl.int32), axis=0) - 1
        found += tl.maximum(digit, 0) << (26 - 4 * step)
    return tl.maximum(found, least)


@triton.jit
def _sum_above(
    start, vocab, highest, temperature, least, found, SHIFT: tl.constexpr,
    BY_COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """For j from 0 to 15: the sum, or the number, of weights whose bits reach found + j · 2^SHIFT
    and `least`."""
    bounds = tl.maximum(found + (tl.arange(0, 16) << SHIFT), least)
    sums = tl.zeros([16], tl.float32)
    for first in range(0, vocab, BLOCK):
        tokens = first + tl.arange(0, BLOCK)
        scores = tl.load(start + tokens, mask=tokens < vocab, other=float("-inf"))
        weights = tl.exp((scores - highest) / temperature)
        bits = weights.to(tl.int32, bitcast=True)
        counted = tl.where(tokens < vocab, 1.0, 0.0) if BY_COUNT else weights
        reaches = bits[None, :] >= bounds[:, None]
        sums += tl.sum(tl.where(reaches, counted[None, :], 0.0), axis=1)
    return sums


@triton.jit
def _draw(start, vocab, highest, temperature, least, key, BLOCK: tl.constexpr):
    """The token with the highest noisy score among those whose weight reaches `least`."""
    most, best = float("-inf"), 0
    for first in range(0, vocab, BLOCK):
        tokens = first + tl.arange(0, BLOCK)
        scores = tl.load(start + tokens, mask=tokens < vocab, other=float("-inf"))
        scores = (scores - highest) / temperature
        is_kept = (tl.exp(scores).to(tl.int32, bitcast=True) >= least) & (tokens < vocab)
        bits = _mix(key + tokens.to(tl.uint64) * 0x9E3779B97F4A7C15) >> 40
        uniform = (bits.to(tl.float32) + 0.5) * 5.9604644775390625e-08  # 24 bits: 2⁻²⁴
        noisy = tl.where(is_kept, scores - tl.log(-tl.log(uniform)), float("-inf"))
        higher = tl.max(noisy, axis=0)
        if higher > most:
            best = first + tl.argmax(noisy, axis=0)
            most = higher
    return best


@triton.jit
def _mix(value):
    """One number of SplitMix64, see `engine/chance`."""
    value = value + 0x9E3779B97F4A7C15
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB
    return value ^ (value >> 31)
