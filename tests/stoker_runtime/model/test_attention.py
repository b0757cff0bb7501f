"""Attention through the paged cache equals attention over everything, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import SimpleNamespace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels import reference
from stoker_runtime.kernels.reference import Scoring, write_kv
from stoker_runtime.schedule.step import Chunk

HEADS, KV_HEADS, DIM = 4, 2, 8
KINDS = (
    Scoring(DIM**-0.5),
    Scoring(0.2, window=5),
    Scoring(0.5, softcap=2.0, window=64),
    Scoring(0.5, softcap=2.0),
    Scoring(DIM**-0.5, window=1),
)


def make_runner(num_blocks: int, block_size: int) -> Runner:
    """A runner around a spec alone: its plans are what is tested."""
    spec = SimpleNamespace(num_layers=1, num_kv_heads=KV_HEADS, head_dim=DIM, windows=(0, 1, 5, 64))
    device = torch.device("cpu")
    model = SimpleNamespace(ops=reference, spec=spec, dtype=torch.float32, device=device)
    return Runner(model, num_blocks, block_size)  # type: ignore[arg-type]


def full_attention(
    kind: Scoring, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Causal attention of a whole sequence: [num_tokens, num_heads, head_dim]."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * kind.scale
    if cap := kind.softcap:
        scores = cap * torch.tanh(scores / cap)
    ages = torch.arange(len(q))[:, None] - torch.arange(len(q))
    hidden = (ages < 0) | (ages >= (kind.window or len(q)))
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


def cut_into_steps(lengths: list[int], random: Random) -> Iterator[list[tuple[int, slice]]]:
    """Steps of random pieces of random sequences, in order, until all are done."""
    done = [0] * len(lengths)
    while done != lengths:
        step = []
        for i, length in enumerate(lengths):
            left = length - done[i]
            take = min(left, random.choice((0, 1, 1, left, random.randint(0, left))))
            if take:
                step.append((i, slice(done[i], done[i] + take)))
                done[i] += take
        if step:
            yield step


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    block_size=st.integers(1, 9),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
)
def test_any_cut_of_any_mix_equals_full_attention(
    lengths: list[int], block_size: int, seed: int, kind: Scoring
) -> None:
    torch.manual_seed(seed)
    counts = [-(-length // block_size) for length in lengths]
    order = torch.randperm(sum(counts)).tolist()
    tables = [tuple(order[sum(counts[:i]) : sum(counts[: i + 1])]) for i in range(len(counts))]
    qkv = [torch.randn(length, HEADS + 2 * KV_HEADS, DIM) for length in lengths]
    split = [x.split([HEADS, KV_HEADS, KV_HEADS], dim=1) for x in qkv]
    runner = make_runner(sum(counts), block_size)
    outs: list[list[torch.Tensor]] = [[] for _ in lengths]
    for step in cut_into_steps(lengths, Random(seed)):
        q, k, v = (torch.cat([split[i][part][rows] for i, rows in step]) for part in range(3))
        sizes = [rows.stop - rows.start for _, rows in step]
        chunks = [
            Chunk(str(i), rows.start, (0,) * size, tables[i], samples=True)
            for (i, rows), size in zip(step, sizes, strict=True)
        ]
        plan = runner.padding.plan(chunks)
        cache = next(runner.caches.layers())
        write_kv(cache, k, v, plan.slots)
        out = plan.attend(q, cache, kind)
        for (i, _), piece in zip(step, out.split(sizes), strict=True):
            outs[i].append(piece)
    for made, (q, k, v) in zip(outs, split, strict=True):
        torch.testing.assert_close(
            torch.cat(made), full_attention(kind, q, k, v), atol=1e-5, rtol=1e-4
        )
