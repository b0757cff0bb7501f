"""What kernels for GPUs compute, in plain torch: their tests compare both.

Knows tensors and the kernels' own types; does not know Triton. Kernels that are `Ops` have their
twins in `kernels/reference`, which also serves.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from stoker_runtime.kernels.cache import LIMITS
from stoker_runtime.kernels.gpu.adjust import IN_PROMPT, IS_END, SAID, Marks, Terms
from stoker_runtime.kernels.gpu.moe import Mixture
from stoker_runtime.kernels.gpu.w4a16 import PLANE, Words
from stoker_runtime.kernels.gpu.w8a8 import Sums


def adjust(
    logits: torch.Tensor, marks: Marks, terms: Terms, lengths: torch.Tensor
) -> torch.Tensor:  # as `gpu/adjust.adjust`
    """Bias, penalties and least lengths."""
    out = logits.clone()
    rows = (terms.slots >= 0).nonzero()[:, 0]
    slots = terms.slots[rows].long()
    known, scores = marks.tokens[slots], out[rows]
    if marks.bias is not None:
        scores = scores + marks.bias[slots]
    factors, frequencies, presences, leasts = (
        one[rows, None]
        for one in (terms.repetitions, terms.frequencies, terms.presences, terms.leasts)
    )
    said = known // SAID
    repeated = torch.where(scores > 0, scores / factors, scores * factors)
    scores = torch.where((said > 0) | (known & IN_PROMPT > 0), repeated, scores)
    scores = scores - frequencies * said - presences * (said > 0)
    is_early = (known & IS_END > 0) & (lengths[rows, None] + 1 < leasts)
    out[rows] = scores.masked_fill(is_early, -torch.inf)
    return out


def count(marks: Marks, slots: torch.Tensor, tokens: torch.Tensor) -> None:
    """As `gpu/adjust.count`."""
    has_both = (slots >= 0) & (tokens >= 0)
    marks.tokens[slots[has_both].long(), tokens[has_both]] += SAID


def mix(
    x: torch.Tensor, mixture: Mixture, weights: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:  # [num_tokens, hidden]
    """A `Mixture`, token by token."""
    out = torch.zeros_like(x)
    for token, row in enumerate(x):
        for weight, expert in zip(weights[token], chosen[token].tolist(), strict=True):
            inner = mixture.gate(mixture.gate_up.held[expert](row[None]))
            out[token] += weight * mixture.down.held[expert](inner)[0]
    return out


def multiply_words(
    x: torch.Tensor, weight: Words, bias: torch.Tensor | None
) -> torch.Tensor:  # [num_tokens, out]
    """As `gpu/w4a16.multiply`."""
    return F.linear(x, restore_words(weight).to(x.dtype), bias)


def restore_words(weight: Words) -> torch.Tensor:  # [out, in] float32
    """The weight that the words stand for."""
    planes = 16 // weight.bits
    words = weight.words.int().view(weight.num_blocks, 1, PLANE, -1)
    shifts = torch.arange(planes, device=words.device).view(1, -1, 1, 1) * weight.bits
    codes = (words >> shifts & (1 << weight.bits) - 1).flatten(0, 2).float()  # [padded in, out]
    scales, zeros = (
        one.float().repeat_interleave(weight.group, 0) for one in (weight.scales, weight.zeros)
    )
    return ((codes - zeros) * scales * weight.factor)[: weight.num_cols].t()


def round_rows(x: torch.Tensor, codes: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """As `gpu/rows.round_rows`."""
    wide = x.float()
    scales = wide.abs().amax(-1, keepdim=True).clamp(min=1e-12) / LIMITS[codes]
    steps = wide / scales
    return (steps.round() if codes == torch.int8 else steps).to(codes), scales


def multiply_eight_bits(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:  # as `multiply` of `gpu/w8a8` and `gpu/fp8`
    """In float64, which holds every sum of whole numbers exactly."""
    rounded, row_scales = round_rows(x, codes.dtype)
    sums = rounded.double() @ codes.double().t()
    return finish(Sums(sums, row_scales, scales, bias), x.dtype)


def finish(product: Sums, dtype: torch.dtype) -> torch.Tensor:  # [num_tokens, out] of dtype
    """As `gpu/w8a8.finish`."""
    out = product.sums.float() * product.row_scales * product.scales
    return (out if product.bias is None else out + product.bias.float()).to(dtype)
