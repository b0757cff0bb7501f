"""How much KV cache there is room for: arithmetic, no trial run.

Knows sizes in bytes; does not know torch or where the numbers were found. Called by `loading`
before weights are read, so that what can't fit is refused instead of killed, and by `assembly` for
a GPU, where its free memory is known only then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker_runtime.config import Config
from stoker_runtime.errors import ConfigInvalid, OutOfMemory
from stoker_runtime.model.spec import CacheDtype, ModelSpec

_MIB = 1 << 20
_PROCESS_BYTES = 300 * _MIB
"""Both processes besides model and cache: 130 MiB and 60 MiB measured; libraries are page cache."""
_CACHE_SHARE = 0.7
"""Of what weights and activations leave of a host's memory; the rest is the kernel's, and for
surprises."""
_DRAW_BYTES = 24 * _MIB
"""Twelve tables of the 2 MiB of scores that are drawn from at once, if all of them are equal."""
_LIBRARY_BYTES = 384 * _MIB
"""Of a GPU what libraries take when they are first used: cuBLAS' workspaces (32 MiB each), modules
of kernels. Not measured."""
_LINK_BYTES = 512 * _MIB
"""NCCL's buffers, where several GPUs compute one model. Not measured."""
_GRAPH_BYTES = 16 * _MIB
"""What a recorded graph of some hundred launches takes for itself. Not measured."""
_MOST_GRAPHS = 9
_MOST_GRAPH_TOKENS = 256
_FRAGMENTS = 8
"""One part in eight of the activations is lost between tensors: torch's allocator keeps blocks of
2 MiB and more that do not fit what comes next."""


@dataclass(frozen=True, slots=True)
class Space:
    """Memory of a host or a GPU, and what of it is neither for weights nor for the cache."""

    available_bytes: int
    """Weights that are there already count as available."""
    activation_bytes: int
    other_bytes: int
    others: str
    """What these are, in a word or two."""
    cache_share: float
    """Of all the rest."""


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's memory as it is now."""

    total_bytes: int
    free_bytes: int
    held_bytes: int
    """By tensors of this process, and what its allocator keeps."""


def host_space(spec: ModelSpec, config: Config, available_bytes: int) -> Space:
    """A process that computes in float32, among others."""
    activations = activation_bytes(spec, config, 4)
    return Space(available_bytes, activations, _PROCESS_BYTES, "processes", _CACHE_SHARE)


def gpu_space(
    spec: ModelSpec, config: Config, memory: GpuMemory, item_bytes: int, by_kernels: bool
) -> Space:
    """What `gpu_memory_utilization` allows of a GPU; item_bytes: of a number in hidden states.

    Of 80 GiB a tenth stays free; if other processes and this one's context have 1 GiB, 71 GiB are
    available. Without kernels torch attends, with tables of scores as long as the cache: what a
    host keeps for surprises is kept for them.
    """
    allowed = int(memory.total_bytes * config.gpu_memory_utilization)
    elsewhere = memory.total_bytes - memory.free_bytes - memory.held_bytes
    activations = activation_bytes(spec, config, item_bytes)
    tokens = min(config.max_num_seqs, _MOST_GRAPH_TOKENS)
    graphs = _MOST_GRAPHS * _GRAPH_BYTES + tokens * item_bytes * _widest(spec)
    links = 0 if spec.share.is_whole else _LINK_BYTES
    return Space(
        available_bytes=allowed - elsewhere,
        activation_bytes=activations + activations // _FRAGMENTS,
        other_bytes=graphs + _LIBRARY_BYTES + links,
        others="graphs and libraries",
        cache_share=1.0 if by_kernels else _CACHE_SHARE,
    )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes that follow from the spec, the settings and the memory."""

    num_blocks: int
    max_model_len: int
    """Longest prompt plus answer, in tokens."""

    def shrink_to(self, num_blocks: int, block_size: int) -> MemoryPlan:
        """With the cache of whoever has the least room."""
        return MemoryPlan(num_blocks, min(self.max_model_len, num_blocks * block_size))


def plan_memory(
    spec: ModelSpec,
    config: Config,
    cache_dtype: CacheDtype,
    weight_bytes: int,
    space: Space,
) -> MemoryPlan:
    """Size the cache and the longest sequence; raises `OutOfMemory` with all numbers in it."""
    if config.max_model_len > spec.max_position:
        raise ConfigInvalid(
            "`max_model_len` must be ≤ the checkpoint's `max_position_embeddings`, "
            f"was {config.max_model_len} > {spec.max_position}"
        )
    wanted_len = config.max_model_len or spec.max_position
    fixed = weight_bytes + space.activation_bytes + space.other_bytes
    room = int((space.available_bytes - fixed) * space.cache_share)
    per_token = spec.kv_bytes_per_token(cache_dtype)
    fitting = max(0, room) // per_token
    size = config.block_size
    needed = -(-(config.max_model_len or 1) // size) * size
    if 0 < config.kv_cache_tokens < needed:
        raise ConfigInvalid(
            f"`kv_cache_tokens` must be ≥ {needed} (one sequence, in blocks of {size}), "
            f"was {config.kv_cache_tokens}"
        )
    of_all = config.max_num_seqs * -(-wanted_len // size) * size
    tokens = config.kv_cache_tokens or min(fitting, of_all)
    num_blocks = tokens // size
    held = num_blocks * size
    if held < needed or tokens > fitting:
        raise OutOfMemory(
            f"{_mib(space.available_bytes)} MiB are available, {_mib(fixed)} MiB are taken by "
            f"weights ({_mib(weight_bytes)}), activations ({_mib(space.activation_bytes)}) and "
            f"{space.others} ({_mib(space.other_bytes)}); {space.cache_share:.0%} of the rest is "
            f"room for {fitting} tokens of KV cache at {per_token} bytes, "
            f"{max(needed, config.kv_cache_tokens)} are needed: give the pod more "
            "memory or lower `max_model_len` or `kv_cache_tokens`. "
            f"Would fit: {_remedies(config, fixed, per_token / space.cache_share, needed, fitting)}"
        )
    return MemoryPlan(num_blocks, min(wanted_len, held))


def _remedies(config: Config, fixed: int, per_token: float, needed: int, fitting: int) -> str:
    """What would fit: so much memory, or so short a length, if any is long enough."""
    wanted = max(needed, config.kv_cache_tokens)
    memory = fixed + math.ceil(wanted * per_token)
    shorter = fitting // config.block_size * config.block_size
    length = f", or a `max_model_len` of {shorter}" if shorter else ""
    return f"{_mib(memory) + 1} MiB available{length}."


def activation_bytes(spec: ModelSpec, config: Config, item_bytes: int) -> int:
    """The most that a step's intermediates take: of one layer for a full step, and of the draw.

    Of scores in float32 there are up to four tables at once (as the head made them, adjusted, and
    for log probabilities), besides those of the piece that is turned into draws.
    """
    layer = config.max_batched_tokens * item_bytes * _widest(spec)
    return layer + 4 * config.max_num_seqs * spec.vocab_size * 4 + _DRAW_BYTES


def _widest(spec: ModelSpec) -> int:
    """Numbers per token that are there at once where a layer is widest.

    In the MLP: the residual stream, the norms before and after attention, attention's output and
    what the MLP makes (5 hidden), the queries, gates and ups and their product (3 intermediate).
    Torch's attention and its gate need some more than kernels do: keys and values, and copies of
    queries and of one product.
    """
    kv_size = spec.num_kv_heads * spec.head_dim
    attention = 5 * spec.hidden_size + 3 * spec.q_size + 2 * kv_size
    inter, experts = spec.intermediate_size, spec.experts
    if experts is None:
        return attention + 4 * inter
    chosen = experts.num_chosen * (4 * experts.intermediate_size + 2 * spec.hidden_size)
    sparse = chosen + 4 * experts.shared_size + 4 * experts.num_experts
    return attention + max(
        sparse, 4 * inter if not all(one.is_sparse for one in spec.layers) else 0
    )


def _mib(num_bytes: int) -> int:
    return max(0, num_bytes) // _MIB
