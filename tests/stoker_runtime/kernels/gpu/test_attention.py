"""Attention's kernels equal softmax(q·kᵀ)·v as a textbook has it, over any cut of any mix."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stoker_runtime.kernels.cache import KvCache, round_heads
from stoker_runtime.kernels.gpu import attention
from stoker_runtime.kernels.gpu.attention import PagedPlan, Tiles
from stoker_runtime.kernels.reference import Heads, Scoring
from support.gpu import CODES, DEVICE, EXACT, assert_close

Span = tuple[int, int]
PROMPTS: tuple[Span, ...] = ((0, 19), (3, 5), (90, 201))
"""First and last + 1 position of each sequence's tokens in the step; the rest is in the cache."""
DECODES: tuple[Span, ...] = ((0, 1), (16, 17), (139, 140))
HEADS = [(2, 2, 64), (6, 2, 80), (24, 1, 128), (7, 1, 96), (2, 1, 256), (4, 2, 16)]


@dataclasses.dataclass
class Case:
    """A cache with sequences in it, and new queries for them."""

    spans: tuple[Span, ...]
    heads: tuple[int, int, int]
    block_size: int = 16
    dtype: torch.dtype = EXACT

    def __post_init__(self) -> None:
        torch.manual_seed(self.heads[0] + self.block_size)
        num_heads, num_kv_heads, dim = self.heads
        self.widths = [-(-end // self.block_size) for _, end in self.spans]
        num_tokens = sum(end - start for start, end in self.spans)
        num_blocks = sum(self.widths) + 3
        order = torch.randperm(num_blocks)[: sum(self.widths)]
        self.tables = order.to(torch.int32)
        shape = (2, num_blocks, self.block_size, num_kv_heads, dim)
        self.cache = torch.randn(shape).to(self.dtype)
        self.q = torch.randn(num_tokens, num_heads, dim).to(self.dtype)

    def plan(self, *, are_decodes: bool) -> PagedPlan:
        most = (
            1
            if are_decodes
            else attention.tokens_per_tile(Heads(*self.heads[:2]), self.heads[2], DEVICE)
        )
        tiles, row, place = [], 0, 0
        for (start, end), width in zip(self.spans, self.widths, strict=True):
            for first in range(start, end, most):
                tiles.append((row, min(most, end - first), first, place))
                row += tiles[-1][1]
            place += width
        made = Tiles(torch.tensor(tiles, dtype=torch.int32), self.tables, 256)
        none = Tiles(made.tiles[:0], self.tables, 0)
        slots = torch.empty(0, dtype=torch.int32)
        return PagedPlan(slots, none, made) if are_decodes else PagedPlan(slots, made, none)

    def expect(self, scoring: Scoring) -> torch.Tensor:
        made, row, place = [], 0, 0
        for (start, end), width in zip(self.spans, self.widths, strict=True):
            blocks = self.tables[place : place + width].long()
            k, v = self.cache[:, blocks].flatten(1, 2)[:, :end].float().unbind(0)
            made.append(attend_plainly(self.q[row : row + end - start].float(), k, v, scoring))
            row, place = row + end - start, place + width
        return torch.cat(made).to(self.dtype)


def attend_plainly(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scoring: Scoring
) -> torch.Tensor:
    """q: [queries, heads, dim], the last tokens of k, v: [keys, kv_heads, dim]."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * scoring.scale
    if scoring.softcap:
        scores = scoring.softcap * (scores / scoring.softcap).tanh()
    keys = torch.arange(len(k), device=q.device)
    age = keys[len(k) - len(q) :, None] - keys
    scores[:, (age < 0) | (age >= (scoring.window or len(k)))] = -torch.inf
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("spans", [PROMPTS, DECODES], ids=["prompts", "decodes"])
def test_every_size_of_head_equals_the_textbook(
    spans: tuple[Span, ...], heads: tuple[int, int, int]
) -> None:
    case, scoring = Case(spans, heads), Scoring(0.2)
    made = case.plan(are_decodes=spans is DECODES).attend(case.q, KvCache(case.cache), scoring)
    assert_close(made, case.expect(scoring))


@pytest.mark.parametrize("block_size", [4, 32])
@pytest.mark.parametrize("spans", [PROMPTS, DECODES], ids=["prompts", "decodes"])
@pytest.mark.parametrize(
    "scoring",
    [Scoring(0.5, 3.0), Scoring(0.2, None, 37), Scoring(0.1, 50.0, 130), Scoring(1.0, None, 1)],
    ids=["soft cap", "window", "both", "window of itself"],
)
def test_windows_and_soft_caps_equal_the_textbook(
    scoring: Scoring, spans: tuple[Span, ...], block_size: int
) -> None:
    case = Case(spans, (3, 1, 128), block_size)
    made = case.plan(are_decodes=spans is DECODES).attend(case.q, KvCache(case.cache), scoring)
    assert_close(made, case.expect(scoring))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spans", [PROMPTS, DECODES], ids=["prompts", "decodes"])
def test_short_floats_are_summed_in_float32(spans: tuple[Span, ...], dtype: torch.dtype) -> None:
    case, scoring = Case(spans, (4, 2, 128), dtype=dtype), Scoring(0.09)
    made = case.plan(are_decodes=spans is DECODES).attend(case.q, KvCache(case.cache), scoring)
    assert_close(made, case.expect(scoring))


@pytest.mark.parametrize("num_shares", [4, 16])
@pytest.mark.parametrize("scoring", [Scoring(0.2), Scoring(0.2, 4.0, 70)], ids=["all", "window"])
def test_shares_of_the_keys_add_up(
    scoring: Scoring, num_shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(((600, 601), (64, 65), (0, 1)), (3, 1, 128))
    monkeypatch.setattr(attention, "_SMALLEST_SHARE", 256 // num_shares)
    monkeypatch.setattr(attention, "_SHARES", (num_shares, 1))
    made = case.plan(are_decodes=True).attend(case.q, KvCache(case.cache), scoring)
    assert_close(made, case.expect(scoring))


@pytest.mark.parametrize("dtype", CODES, ids=str)
@pytest.mark.parametrize("spans", [PROMPTS, DECODES], ids=["prompts", "decodes"])
def test_a_rounded_cache_is_read_as_what_it_stands_for(
    spans: tuple[Span, ...], dtype: torch.dtype
) -> None:
    case, scoring = Case(spans, (6, 2, 80)), Scoring(0.1)
    rounded = KvCache(*round_heads(case.cache, dtype))
    assert rounded.scales is not None
    case.cache = rounded.data.float() * rounded.scales[..., None]
    made = case.plan(are_decodes=spans is DECODES).attend(case.q, rounded, scoring)
    assert_close(made, case.expect(scoring))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("dim", "cap", "rows"), [(64, None, 128), (64, 9.0, 64), (96, None, 64)])
def test_a_tile_fits_the_program_that_attends_with_it(
    arch: str, dim: int, cap: float | None, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "find_arch", lambda _: arch)
    most = attention.tokens_per_tile(Heads(4, 2), dim, DEVICE, has_softcap=cap is not None)
    assert most == (rows // 2 if arch == "sm_80" else 64)
    case = Case(((0, most),), (4, 2, dim), dtype=EXACT)
    made = case.plan(are_decodes=False).attend(case.q, KvCache(case.cache), Scoring(0.2, cap))
    assert_close(made, case.expect(Scoring(0.2, cap)))
