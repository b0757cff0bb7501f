"""Attention and what surrounds it in a layer of an 8B Llama, beside the card's own ceilings.

Knows the kernels of `kernels/gpu` and how many bytes and sums they need; does not know engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from figures import Figure
from stand import Stand
from stopwatch import measure_replayed_s, measure_s

from stoker_runtime.kernels.cache import LIMITS, KvCache
from stoker_runtime.kernels.gpu import gate, norm, turn
from stoker_runtime.kernels.gpu.attention import PagedPlan, Tiles, tokens_per_tile
from stoker_runtime.kernels.gpu.sampling import Asked, draw
from stoker_runtime.kernels.reference import Heads, RmsNorm, Scoring

DTYPE = torch.bfloat16
BLOCK = 16
CACHES = {"bf16": DTYPE, "int8": torch.int8, "fp8": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Layer:
    """Sizes of a layer, and of what it is given."""

    num_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128
    hidden: int = 4096
    inter: int = 14336
    num_seqs: int = 32
    context: int = 4096
    prompt: int = 8192
    vocab: int = 128256


TINY = Layer(4, 2, 16, 64, 96, 2, 48, 64, 512)


def measure(stand: Stand) -> Iterator[Figure]:
    """The part `attention`."""
    layer = TINY if stand.is_dry else Layer()
    for name, dtype in CACHES.items():
        yield measure_decode(stand, layer, name, dtype)
    for name, dtype in CACHES.items():
        yield _measure_write(stand, layer, name, dtype)
    yield measure_prompt(stand, layer)
    yield from _measure_rest(stand, layer)


def make_cache(stand: Stand, layer: Layer, num_blocks: int, dtype: torch.dtype) -> KvCache:
    """Random keys and values."""
    shape = (2, num_blocks, BLOCK, layer.num_kv_heads, layer.head_dim)
    if dtype not in LIMITS:
        return KvCache(torch.randn(shape, device=stand.device, dtype=DTYPE).to(dtype))
    scales = torch.rand(shape[:-1], device=stand.device) / LIMITS[dtype]
    codes = torch.randint(-100, 100, shape, device=stand.device, dtype=torch.int8)
    return KvCache(codes.to(dtype), scales)


def make_tiles(stand: Stand, rows: list[tuple[int, int, int, int]], tables: torch.Tensor) -> Tiles:
    """See `Tiles`."""
    most = max((first + count for _, count, first, _ in rows), default=0)
    return Tiles(torch.tensor(rows, dtype=torch.int32, device=stand.device), tables, most)


def _bytes_per_token(layer: Layer, dtype: torch.dtype) -> int:
    scale = 4 if dtype in LIMITS else 0
    return 2 * layer.num_kv_heads * (layer.head_dim * dtype.itemsize + scale)


def measure_decode(stand: Stand, layer: Layer, name: str, dtype: torch.dtype) -> Figure:
    """Every key and value is read once."""
    width = layer.context // BLOCK
    num_blocks = width * layer.num_seqs
    cache = make_cache(stand, layer, num_blocks, dtype)
    tables = torch.randperm(num_blocks, device=stand.device).int()
    rows = [(seq, 1, layer.context - 1, seq * width) for seq in range(layer.num_seqs)]
    slots = torch.empty(0, dtype=torch.int32, device=stand.device)
    none = Tiles(torch.empty(0, 4, dtype=torch.int32, device=stand.device), tables, 0)
    plan = PagedPlan(slots, none, make_tiles(stand, rows, tables))
    q = torch.randn(layer.num_seqs, layer.num_heads, layer.head_dim, device=stand.device).to(DTYPE)
    scoring = Scoring(layer.head_dim**-0.5)
    taken_s = measure_replayed_s(lambda: plan.attend(q, cache, scoring))
    moved = layer.num_seqs * layer.context * _bytes_per_token(layer, dtype)
    what = f"decode attention, {layer.num_seqs} at {layer.context}, {name} cache, of the copy rate"
    return Figure(what, moved / taken_s / stand.copied_bytes_per_s, "", 0.8)


def _measure_write(stand: Stand, layer: Layer, name: str, dtype: torch.dtype) -> Figure:
    """Queries, keys and values are read once; queries and what is cached are written once."""
    num_tokens = layer.prompt
    cache = make_cache(stand, layer, num_tokens // BLOCK, dtype)
    entries = (layer.num_heads + 2 * layer.num_kv_heads) * layer.head_dim
    qkv = torch.randn(num_tokens, entries, device=stand.device).to(DTYPE)
    angles = torch.rand(num_tokens, 1, layer.head_dim // 2, device=stand.device).to(DTYPE)
    slots = torch.randperm(num_tokens, device=stand.device).int()
    heads = Heads(layer.num_heads, layer.num_kv_heads)
    taken_s = measure_replayed_s(
        lambda: turn.turn_and_store(qkv, heads, (angles, angles), cache, slots)
    )
    queries = layer.num_heads * layer.head_dim * DTYPE.itemsize
    per_token = entries * DTYPE.itemsize + queries + _bytes_per_token(layer, dtype)
    what = f"rotation and write of {num_tokens} tokens, {name} cache, of the copy rate"
    return Figure(what, num_tokens * per_token / taken_s / stand.copied_bytes_per_s, "", 0.8)


def measure_prompt(stand: Stand, layer: Layer, dtype: torch.dtype = DTYPE) -> Figure:
    """Half of the square of scores, twice."""
    size, device = layer.prompt, stand.device
    cache = make_cache(stand, layer, size // BLOCK, dtype)
    tables = torch.randperm(size // BLOCK, device=device).int()
    most = tokens_per_tile(Heads(layer.num_heads, layer.num_kv_heads), layer.head_dim, device)
    rows = [(start, min(most, size - start), start, 0) for start in range(0, size, most)]
    none = Tiles(torch.empty(0, 4, dtype=torch.int32, device=device), tables, 0)
    slots = torch.empty(0, dtype=torch.int32, device=device)
    plan = PagedPlan(slots, make_tiles(stand, rows, tables), none)
    q = torch.randn(size, layer.num_heads, layer.head_dim, device=device).to(DTYPE)
    scoring = Scoring(layer.head_dim**-0.5)
    taken_s = measure_s(lambda _: plan.attend(q, cache, scoring))
    flops = 2 * size * size * layer.num_heads * layer.head_dim
    what = f"attention of a prompt of {size}, of the product's rate"
    return Figure(what, flops / taken_s / stand.flops_per_s, "", 0.5)


def _measure_rest(stand: Stand, layer: Layer) -> Iterator[Figure]:
    """What is bound by memory, and the draw."""
    size, device = layer.prompt, stand.device
    x, added = (torch.randn(size, layer.hidden, device=device).to(DTYPE) for _ in range(2))
    weight = RmsNorm(torch.ones(layer.hidden, device=device).to(DTYPE), 1e-5)
    taken_s = measure_replayed_s(lambda: norm.add_and_normalise(x, added, None, weight))
    rate = 4 * x.numel() * DTYPE.itemsize / taken_s / stand.copied_bytes_per_s
    yield Figure(f"sum and norm of {size} × {layer.hidden}, of the copy rate", rate, "", 0.8)
    gate_up = torch.randn(size, 2 * layer.inter, device=device).to(DTYPE)
    taken_s = measure_replayed_s(lambda: gate.silu_and_multiply(gate_up))
    rate = 1.5 * gate_up.numel() * DTYPE.itemsize / taken_s / stand.copied_bytes_per_s
    yield Figure(f"gate of {size} × {layer.inter}, of the copy rate", rate, "", 0.8)
    rows = 2 if stand.is_dry else 256
    logits = torch.randn(rows, layer.vocab, device=device) * 3
    numbers = torch.arange(rows, device=device)
    ones = torch.ones(rows, device=device)
    for what, top_p in (("drawing", 1.0), ("drawing with top-p", 0.9)):
        asked = Asked(numbers, ones, numbers.int() * 0, ones * top_p, ones * 0)
        taken_s = measure_replayed_s(lambda asked=asked: draw(logits, numbers, asked))
        yield Figure(f"{what} {rows} tokens of {layer.vocab}", 1e6 * taken_s, "µs")
